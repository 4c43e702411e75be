"""Selectivity against scikit-learn, SciPy and loops."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, mannwhitneyu, rankdata
from sklearn.metrics import mutual_info_score, roc_auc_score

from sparse_ae.analysis import Result, selectivity
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import classes_of, permutation_null, pooled_p_values, ranks_above_zero, spread
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of

OPTIONS = {"alpha": 0.05, "least_auroc": 0.8, "permutations": 50, "n_units": 3, "n_images": 4}


def _run(z: torch.Tensor, label: torch.Tensor, **options: Any) -> Result:
    return selectivity.analyse(subject_of(z, label=label), **{**OPTIONS, **options})


def _codes(label: torch.Tensor, units: int) -> torch.Tensor:
    """Sparse codes with ties; unit 0 follows class 0, unit 1 is dead, unit 2 is active once."""
    generator = torch.Generator().manual_seed(1)
    z = torch.relu(torch.randn(len(label), units, generator=generator).mul(4).round() / 4)
    z[:, 0] += 2 * (label == 0)
    z[:, 1] = 0
    z[:, 2] = 0
    z[7, 2] = 1
    return z


@pytest.fixture(scope="module")
def label() -> torch.Tensor:
    return torch.randint(0, 4, (600,), generator=torch.Generator().manual_seed(0)) * 2  # classes 0, 2, 4, 6


@pytest.mark.parametrize("sign", [1, -1])
def test_measures_of_each_unit(label: torch.Tensor, sign: int) -> None:
    z = _codes(label, 6)
    z[::2] *= sign  # a code counts by its size
    found = _run(z, label).arrays
    y, a = label.numpy(), z.abs().numpy()
    for i in range(6):
        aurocs = [roc_auc_score(y == c, a[:, i]) for c in (0, 2, 4, 6)]
        assert found["auroc"][i] == pytest.approx(max(aurocs), abs=1e-12)
        assert found["best_class"][i] == 2 * np.argmax(aurocs)
        means = np.array([a[y == c, i].mean() for c in (0, 2, 4, 6)])
        np.testing.assert_allclose(found["class_mean"][i], means)
        assert found["preferred_class"][i] == (2 * means.argmax() if i != 1 else -1)
        rest = np.delete(means, means.argmax()).mean()
        index = (means.max() - rest) / (means.max() + rest) if i != 1 else np.nan
        assert found["selectivity_index"][i] == pytest.approx(index, nan_ok=True)
        bits = mutual_info_score(y, a[:, i] > 0.1) / np.log(2)
        assert found["label_bits"][i] == pytest.approx(bits, abs=1e-12)
    assert found["dead"].tolist() == [False, True, False, False, False, False]
    assert found["tested"].tolist() == [True, False, False, True, True, True]
    assert found["selective"].tolist() == [True, False, False, False, False, False]


def test_numbers_count_and_average_what_was_tested(label: torch.Tensor) -> None:
    numbers, _, arrays, *_ = _run(_codes(label, 6), label)
    tested = arrays["tested"]
    assert numbers["classes"] == [0, 2, 4, 6]
    assert (numbers["dead_units"], numbers["untested_units"], numbers["selective_units"]) == (1, 2, 1)
    assert numbers["selective_units_by_class"] == {"0": 1, "2": 0, "4": 0, "6": 0}
    assert numbers["selective_share"] == pytest.approx(1 / 6)
    for name in ("auroc", "selectivity_index", "label_bits"):
        assert numbers[name] == pytest.approx(arrays[name][tested].mean())
    assert 0.5 < numbers["chance_auroc"] < 0.6


def test_the_null_is_that_of_the_labels_shuffled(label: torch.Tensor) -> None:
    """By loops over the same permutations, from AUROCs by their definition."""
    a, y = _codes(label, 4).numpy(), label.numpy()
    ranks = ranks_above_zero(Codes.of([torch.from_numpy(a)]))
    null = permutation_null(ranks, classes_of(y), 25)
    assert null.shape == (25, 4)
    generator = torch.Generator().manual_seed(0)
    for row in null[:3]:
        shuffled = torch.empty_like(label)
        shuffled[:] = label[torch.randperm(len(y), generator=generator)]
        aurocs = [max(roc_auc_score(shuffled.numpy() == c, unit) for c in (0, 2, 4, 6)) for unit in a.T]
        deviation = np.maximum(rankdata(a, axis=0).std(axis=0), 1e-12)
        np.testing.assert_allclose(row, (np.array(aurocs) - 0.5) / deviation, rtol=1e-4, atol=1e-7)


def test_pooled_p_values_are_uniform_without_an_effect_and_agree_with_mann_whitney() -> None:
    """Two classes: the largest of two AUROCs is the two-sided rank-sum test."""
    generator = torch.Generator().manual_seed(2)
    a = torch.relu(torch.randn(400, 300, generator=generator)).numpy()
    y = (torch.arange(400) % 4 == 0).long().numpy()
    classes = classes_of(y)
    ranks = ranks_above_zero(Codes.of([torch.from_numpy(a)]))
    observed = (ranks @ classes.contrasts).max(axis=1) / spread(ranks)
    p = pooled_p_values(observed, permutation_null(ranks, classes, 100))
    exact = [mannwhitneyu(a[y == 1, i], a[y == 0, i], use_continuity=False).pvalue for i in range(300)]
    np.testing.assert_allclose(p, exact, atol=0.02)
    assert 0.03 < (p < 0.05).mean() < 0.07
    assert false_discovery_control(p).min() > 0.05


def test_p_values_by_hand() -> None:
    null = np.array([[1.0, 2.0], [3.0, 3.0]], dtype=np.float32)
    p = pooled_p_values(np.array([0.5, 3.0, 3.5]), null)
    np.testing.assert_allclose(p, [5 / 5, 3 / 5, 1 / 5])


def test_few_permutations_still_find_one_unit_of_many(label: torch.Tensor) -> None:
    z = _codes(label, 500)
    found = _run(z, label, permutations=20)
    assert found.numbers["significant_units"] >= 1
    assert found.arrays["selective"].nonzero()[0].tolist() == [0]
    p_values = found.arrays["p_value"][found.arrays["tested"]]
    assert (p_values <= 0.05).sum() <= 5


def test_it_gives_the_same_twice(label: torch.Tensor) -> None:
    z = _codes(label, 6)
    assert _run(z, label).numbers == _run(z, label).numbers


@pytest.mark.parametrize(
    ("z", "label"),
    [
        (torch.zeros(60, 4), torch.arange(60) % 3),
        (torch.ones(60, 4), torch.arange(60) % 3),
        (torch.rand(60, 1), torch.arange(60) % 3),
        (torch.rand(60, 4), torch.full((60,), 3)),
        (torch.rand(1, 4), torch.tensor([3])),
        (-torch.rand(60, 4), torch.arange(60) % 3),
    ],
    ids=["dead", "constant", "one unit", "one class", "one sample", "negative"],
)
def test_degenerate(z: torch.Tensor, label: torch.Tensor) -> None:
    result = _run(z, label)
    json.dumps(result.numbers, allow_nan=False)
    for figure in result.figures.values():
        assert to_png(figure, dpi=20).startswith(b"\x89PNG")
    if len(label.unique()) == 1 or (z == z[0]).all():
        assert result.numbers["auroc"] is None
        texts = [text.get_text() for axes in result.figures["units"].axes for text in axes.texts]
        assert texts == [
            "Most selective units",
            "no unit is active often enough",
            "Least selective units",
            "no unit is active often enough",
        ]


def test_figures_show_what_was_measured(label: torch.Tensor) -> None:
    z = _codes(label, 6)
    figures = _run(z, label).figures
    heatmap = figures["class_means"].axes[0].images[0].get_array()
    assert heatmap.shape == (4, 6)
    assert heatmap.mask[:, -1].all()  # the dead unit
    assert (heatmap.max(axis=0)[:-1] == 1).all()
    (units,) = figures["units"].axes
    texts = [text.get_text() for text in units.texts]
    assert [texts[0], texts[4]] == ["Most selective units", "Least selective units"]
    assert texts[1].startswith("unit 0\n")
    assert len(texts) == 2 * (1 + 3)
    top = z[:, 0].argsort(descending=True, stable=True)[0]
    photographs = units.images[1].get_array()
    x = subject_of(z, label=label).x[top].reshape(4, 4)
    np.testing.assert_allclose(photographs[:4, 6:10], x)  # after the atom of 4 pixels, a gap of 1 and one of 4 // 3
    left, right = figures["auroc"].axes
    assert left.patches[0].get_data().values.sum() == 4
    assert [bar.get_height() for bar in right.patches] == pytest.approx([100 / 6, 0, 0, 0])
