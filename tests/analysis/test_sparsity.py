"""Sparsity against NumPy loops and hand-computed sparseness, and on degenerate codes."""

import json
import math

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from sparse_ae.analysis import sparsity
from sparse_ae.functional import always_on_units, treves_rolls, vinje_gallant
from tests.analysis.subjects import subject_of

FIGURES = {"sparsity", "nonzero", "lifetime", "classes", "threshold", "sparseness"}


def _codes(*, signed: bool) -> torch.Tensor:
    z = torch.randn(2500, 7, generator=torch.Generator().manual_seed(0))
    z = z if signed else torch.relu(z - 0.5)
    z[:, 3] = 0
    z[5] = 0
    return z


def _hoyer(values: np.ndarray) -> float:
    n = len(values)
    return (math.sqrt(n) - sum(abs(values)) / math.sqrt(sum(values**2))) / (math.sqrt(n) - 1)


def _treves_rolls(values: np.ndarray) -> float:
    return (sum(abs(values)) / len(values)) ** 2 / (sum(values**2) / len(values))


@pytest.mark.parametrize("signed", [False, True])
def test_numbers_against_numpy_over_several_batches(signed: bool) -> None:
    z = _codes(signed=signed)
    numbers = sparsity.analyse(subject_of(z)).numbers
    values = z.double().numpy()
    active, nonzero = np.abs(z.numpy()) > 0.1, values != 0
    rows, columns = values[nonzero.any(1)], values.T[nonzero.any(0)]
    expected = {
        "samples": 2500,
        "units": 7,
        "threshold": 0.1,
        "code_min": values.min(),
        "code_max": values.max(),
        "population_sparsity": active.mean(1).mean(),
        "lifetime_sparsity": active.mean(0).mean(),
        "lifetime_sparsity_median": np.median(active.mean(0)),
        "l0": nonzero.sum(1).mean(),
        "inactive_units": 1,
        "always_on_units": 0,
        "inactive_units_nonzero": 1,
        "always_on_units_nonzero": 6 if signed else 0,
        "dead_units": 1,
        "all_zero_samples": (~nonzero.any(1)).sum(),
        "hoyer": np.mean([_hoyer(row) for row in rows]),
        "treves_rolls": np.mean([_treves_rolls(row) for row in rows]),
        "vinje_gallant": np.mean([(1 - _treves_rolls(row)) / (1 - 1 / 7) for row in rows]),
        "hoyer_lifetime": np.mean([_hoyer(column) for column in columns]),
        "treves_rolls_lifetime": np.mean([_treves_rolls(column) for column in columns]),
        "vinje_gallant_lifetime": np.mean([(1 - _treves_rolls(column)) / (1 - 1 / 2500) for column in columns]),
    }
    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert set(numbers) - set(expected) == {"classes", "thresholds"}


def test_sparseness_by_hand() -> None:
    z = torch.tensor([[3.0, -4, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2], [0, 0, 5, 0]])
    a = treves_rolls(z)
    assert a[[0, 2, 3]].tolist() == pytest.approx([0.49, 1, 0.25])
    assert vinje_gallant(a, 4)[[0, 2, 3]].tolist() == pytest.approx([0.68, 0, 1])
    assert a[1].isnan()
    assert vinje_gallant(treves_rolls(z[:, :1]), 1).isnan().all()
    numbers, _, arrays, *_ = sparsity.analyse(subject_of(z))
    assert numbers["hoyer"] == pytest.approx((0.6 + 0 + 1) / 3)
    assert numbers["all_zero_samples"] == 1
    assert np.isnan(arrays["hoyer"]).tolist() == [False, True, False, False]


def test_thresholds_against_one_comparison_each() -> None:
    z = _codes(signed=True)
    z[:4, 0] = torch.tensor([0.1, 0.1, 0.0, 1.0])  # ties: a code at the threshold is not active
    z[:, 1] = 0.5
    numbers = sparsity.analyse(subject_of(z, threshold=0.25)).numbers
    curves = numbers["thresholds"]
    assert curves["threshold"][0] == 0
    assert 0.25 in curves["threshold"]
    assert curves["threshold"] == sorted(curves["threshold"])
    for i, threshold in enumerate(curves["threshold"]):
        active = z.abs() > threshold
        assert curves["population_sparsity"][i] == pytest.approx(active.double().mean().item())
        assert curves["inactive_units"][i] == (active.double().mean(0) < 0.01).sum()
        assert curves["always_on_units"][i] == (active.double().mean(0) > 0.99).sum()
    at_own = curves["threshold"].index(0.25)
    assert curves["population_sparsity"][at_own] == pytest.approx(numbers["population_sparsity"])
    assert curves["always_on_units"][at_own] == numbers["always_on_units"] == 1


def test_inactive_and_always_on_leave_out_their_bounds() -> None:
    z = torch.zeros(200, 4)
    for unit, samples in enumerate((1, 2, 198, 199)):  # under 1 %, 1 %, 99 %, over 99 %
        z[:samples, unit] = 1
    numbers = sparsity.analyse(subject_of(z)).numbers
    assert numbers["inactive_units"] == 1
    assert numbers["always_on_units"] == 1
    assert always_on_units(torch.tensor([0.99, 0.991])) == 1


def test_classes_are_counted_apart_and_an_absent_one_is_none() -> None:
    z = torch.tensor([[0.0, 0.05, 1], [1, 1, 1], [0, 0, 1]])
    result = sparsity.analyse(subject_of(z, label=torch.tensor([0, 2, 0])))
    assert result.numbers["classes"] == {
        "0": {"samples": 2, "population_sparsity": pytest.approx(1 / 3), "l0": pytest.approx(1.5)},
        "1": {"samples": 0, "population_sparsity": None, "l0": None},
        "2": {"samples": 1, "population_sparsity": 1, "l0": 3},
    }
    for axes in result.figures["classes"].axes:
        assert len(axes.patches) == 2  # a histogram for each class that there is
        assert [text.get_text() for text in axes.texts] == ["no samples"]
        assert (axes.patches[1].get_data().values - axes.patches[1].get_data().baseline).any()
    names = [tick.get_text() for tick in result.figures["classes"].axes[0].get_yticklabels()]
    assert names == ["0", "1", "2"]


def test_histograms_of_classes_against_counting() -> None:
    z = (torch.rand(600, 20, generator=torch.Generator().manual_seed(0)) < torch.linspace(0.2, 0.6, 600)[:, None]) / 2
    label = torch.arange(600) % 3
    axes = sparsity.analyse(subject_of(z, label=label)).figures["classes"].axes[0]
    histograms = [patch.get_data() for patch in axes.patches]
    heights = np.stack([histogram.values - histogram.baseline for histogram in histograms])
    active, edges = (z > 0.1).sum(dim=1), histograms[0].edges
    counted = [[(active[label == c] == n).sum().item() for n in range(len(edges) - 1)] for c in range(3)]
    np.testing.assert_allclose(edges, (np.arange(len(edges)) - 0.5) / 20)  # a bin for each number of units
    np.testing.assert_allclose(heights / heights.max(), np.array(counted) / np.max(counted))  # classes are as large
    assert [histogram.baseline for histogram in histograms] == [2, 1, 0]
    assert heights.max() < 1  # none reaches the next
    assert f"{600 - np.sum(counted)} samples lie beyond" in axes.get_xlabel()
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_label() == "median of the class"]
    assert medians == pytest.approx([np.median(active[label == c]) / 20 for c in range(3)])


@pytest.mark.parametrize(("z", "said"), [(torch.zeros(9, 4), "0"), (torch.ones(9, 4), "1")], ids=["dead", "constant"])
def test_where_all_samples_are_equally_sparse_it_is_said(z: torch.Tensor, said: str) -> None:
    result = sparsity.analyse(subject_of(z, label=torch.arange(9) % 2 * 2))
    assert result.numbers["classes"]["1"] == {"samples": 0, "population_sparsity": None, "l0": None}
    for axes in result.figures["classes"].axes:
        assert [text.get_text() for text in axes.texts] == [f"{said} in all samples"]
    result.figures["classes"].draw_without_rendering()


def test_every_sample_and_unit_stands_in_one_bar() -> None:
    result = sparsity.analyse(subject_of(_codes(signed=False)))
    assert set(result.figures) == FIGURES
    for name in ("sparsity", "nonzero"):
        panels = result.figures[name].axes
        heights = [sum(patch.get_data().values.sum() for patch in panel.patches) for panel in panels[:2]]
        assert heights == [2500, 7]
    nonzero = int(result.numbers["l0"] * 2500 + 0.5)
    codes = [result.figures[name].axes[2].patches[0].get_data().values.sum() for name in ("sparsity", "nonzero")]
    assert codes == [2500 * 7, nonzero]
    for panel in result.figures["lifetime"].axes:
        assert sum(patch.get_data().values.sum() for patch in panel.patches) == 7
        assert "1\nnever" in [text.get_text() for text in panel.texts]
    drawn = [patch.get_data().values.sum() for axes in result.figures["sparseness"].axes for patch in axes.patches]
    assert drawn == [2500 - result.numbers["all_zero_samples"]] * 3 + [6] * 3


@pytest.mark.parametrize(
    ("z", "threshold"),
    [(torch.zeros(1, 4), 0.1), (torch.full((9, 1), -0.5), 0), (torch.eye(3, 1024), 0.1)],
    ids=["dead, one sample", "one unit, constant, negative", "wide"],
)
def test_degenerate_codes_give_json_and_figures(z: torch.Tensor, threshold: float) -> None:
    result = sparsity.analyse(subject_of(z, threshold=threshold))
    json.dumps(result.numbers, allow_nan=False)
    for figure in result.figures.values():
        figure.draw_without_rendering()  # lays it out, which is where a warning would come from
    undefined = [text for text in result.figures["sparseness"].findobj(Text) if text.get_text() == "undefined"]
    measures = ("hoyer", "treves_rolls", "vinje_gallant")
    kinds = [all(result.numbers[f"{name}{kind}"] is None for name in measures) for kind in ("", "_lifetime")]
    assert len(undefined) == sum(kinds)
