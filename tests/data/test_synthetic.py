"""Data of a known dictionary: rates, correlations, hierarchy, coherence; rows that depend on seed and index only."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.data import Synthetic
from sparse_ae.data.sparse_model import draw_atoms, forest, probabilities, welch_bound
from sparse_ae.data.synthetic import _STREAMS

NOTHING = {"val_size": 1, "test_size": 1}


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the rows of all tests, each under a name of its own."""
    return tmp_path_factory.getbasetemp() / "synthetic"


def made(root: Path, **options: Any) -> Synthetic:
    data = Synthetic(**({"root": str(root), "dim": 12, "n_true": 20, "n": 1500, "l0": 3.0} | options))
    data.prepare_data()
    return data


def _all(data: Synthetic, name: Any) -> np.ndarray:
    rows = data.split(name).rows
    return rows.read(0, len(rows)).numpy()


def _codes(data: Synthetic, name: Any = "test") -> np.ndarray:
    return data.truth(name, data.sizes[name]).codes.toarray()


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_rows_are_the_sum_of_atoms_times_codes_and_bias(name: Any, root: Path) -> None:
    data = made(root, bias=2.0)
    truth = data.truth(name, data.sizes[name])
    expected = truth.codes.toarray().astype(float) @ truth.atoms.double().numpy() + truth.bias.double().numpy()
    np.testing.assert_allclose(_all(data, name), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(truth.atoms, axis=1), 1, atol=1e-6)
    assert np.linalg.norm(truth.bias) == pytest.approx(2, abs=1e-6)
    assert data.truth(name, 7).codes.toarray().tolist() == truth.codes.toarray()[:7].tolist()


def test_noise_is_normal_and_of_its_size(root: Path) -> None:
    data = made(root, noise=0.3, test_size=3000)
    truth = data.truth("test", 3000)
    noise = (_all(data, "test") - truth.codes.toarray() @ truth.atoms.numpy()) / 0.3
    assert stats.kstest(noise.ravel()[::3], "norm").pvalue > 0.01
    np.testing.assert_allclose(np.cov(noise.T), np.eye(12), atol=0.1)


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 3000])
def test_a_row_depends_on_seed_split_and_index_alone(n: int, root: Path) -> None:
    few = made(root, n=n, test_size=n, val_size=1, batch_size=1, noise=0.1)
    many = made(root, n=3000, test_size=3000, val_size=1, noise=0.1)
    for name in ("train", "test"):
        stored = [data.source(name).rows.read(0, n) for data in (few, many)]
        assert torch.equal(*stored)
        assert not torch.equal(
            stored[0], made(root, n=n, **NOTHING, batch_size=1, seed=7).source("train").rows.read(0, n)
        )
    assert not torch.equal(few.source("train").rows.read(0, n), few.source("test").rows.read(0, n))


def test_many_features_are_drawn_in_smaller_blocks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.synthetic._MOST_DRAWS", 20 * 10)
    data = made(root, n=95, batch_size=1, **NOTHING)
    blocks = [x.shape for _, x in data._blocks("train", 95)]
    assert blocks == [(10, 12)] * 9 + [(5, 12)]


def test_blocks_do_not_repeat_however_many_there_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds are of 32 bits, and so the same for two of many blocks: later blocks need none of their own."""
    monkeypatch.setattr("sparse_ae.data.synthetic._MOST_ROWS", 1)
    data = made(root, n=1, batch_size=1, noise=0.1, seed=3, **NOTHING)
    monkeypatch.setattr("sparse_ae.data.synthetic.stream_seed", lambda *key: min(key[-1], 50))
    rows = torch.cat([x for _, x in data._blocks("train", 300)])
    assert len(rows.unique(dim=0)) == 300 - (_STREAMS - 51)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frequencies": "power_law", "exponent": 0.7},
        {"correlation": 0.6, "rank": 2},
        {"depth": 3, "children": 2, "n_true": 21},
        {"depth": 2, "children": 3, "child_probability": 1.0, "frequencies": "power_law", "correlation": 0.4},
    ],
)
def test_features_fire_as_often_as_asked(options: dict[str, Any], root: Path) -> None:
    n = 20_000
    data = made(root, test_size=n, **options)
    assert data.true_l0 == pytest.approx(3)
    p = data.probability.numpy()
    rate = (_codes(data) > 0).mean(axis=0)
    assert (np.abs(rate - p) < 5 * np.sqrt(p * (1 - p) / n)).all()


def test_power_law() -> None:
    p = probabilities(forest(4, 1, 2), 1.5, "power_law", 1.0, 0.5).numpy()
    np.testing.assert_allclose(p, 1.5 * np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (25 / 12))


@pytest.mark.parametrize(
    ("magnitudes", "distribution"),
    [("exponential", stats.expon()), ("half_normal", stats.halfnorm(scale=np.sqrt(np.pi / 2))), ("constant", None)],
)
def test_magnitudes(magnitudes: str, distribution: Any, root: Path) -> None:
    values = made(root, magnitudes=magnitudes, test_size=2000).truth("test", 2000).codes.data
    if distribution is None:
        assert (values == 1).all()
    else:
        assert distribution.mean() == pytest.approx(1)
        assert stats.kstest(values, distribution.cdf).pvalue > 0.01


def test_correlated_firing_is_that_of_a_gaussian_copula(root: Path) -> None:
    n = 30_000
    data = made(root, n_true=8, l0=1.6, correlation=0.8, rank=2, test_size=n)
    fires, loading = _codes(data) > 0, data.model.loading.numpy()
    np.testing.assert_allclose((loading**2).sum(axis=1), 0.8)
    bound = stats.norm.ppf(0.2)
    for i in range(8):
        for j in range(i):
            r = float(loading[i] @ loading[j])
            both = stats.multivariate_normal(cov=[[1, r], [r, 1]]).cdf([bound, bound])
            assert (fires[:, i] & fires[:, j]).mean() == pytest.approx(both, abs=5 * np.sqrt(0.2 / n))


def test_without_correlation_features_fire_independently(root: Path) -> None:
    n = 30_000
    fires = _codes(made(root, n_true=8, l0=1.6, test_size=n)) > 0
    correlation = np.corrcoef(fires.T)
    assert np.abs(correlation - np.eye(8)).max() < 4.5 / np.sqrt(n)


def test_a_child_fires_only_with_its_parent_and_as_often_as_asked(root: Path) -> None:
    n = 20_000
    data = made(root, n_true=45, depth=3, children=3, child_probability=0.4, l0=4.0, correlation=0.5, test_size=n)
    fires, parent = _codes(data) > 0, data.trees.parent.numpy()
    assert (parent >= 0).sum() == 45 - 4  # 3 whole trees of 13, and 6 features of a fourth
    for child in np.flatnonzero(parent >= 0):
        own, above = fires[:, child], fires[:, parent[child]]
        assert not (own & ~above).any()
        assert own.sum() / above.sum() == pytest.approx(0.4, abs=5 * np.sqrt(0.24 / above.sum()))


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 4))
def test_forest(n: int, depth: int, children: int) -> None:
    parent, level, tree = (part.numpy() for part in forest(n, depth, children))
    assert level.max() < depth
    assert np.bincount(parent[parent >= 0], minlength=n).max() <= children
    for i in range(n):
        if parent[i] < 0:
            assert level[i] == 0
        else:
            assert parent[i] < i
            assert tree[parent[i]] == tree[i]
            assert level[i] == level[parent[i]] + 1
    assert (parent < 0).sum() == tree.max() + 1


@pytest.mark.parametrize("coherence", [0.15, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("n", [96, 97])
def test_coherence_is_reached_and_not_exceeded(coherence: float, n: int) -> None:
    atoms, _ = draw_atoms(n, 48, coherence, torch.Generator().manual_seed(0))
    cosines = np.abs(atoms.numpy() @ atoms.numpy().T - np.eye(n))
    assert cosines.max() <= coherence + 1e-9
    assert np.median(cosines.max(axis=1)) >= 0.95 * coherence  # of each atom and its nearest


def test_welch_bound_is_that_of_equiangular_lines() -> None:
    angles = np.pi * np.arange(3) / 3
    lines = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert welch_bound(3, 2) == pytest.approx(np.abs(lines @ lines.T - np.eye(3)).max())


def test_a_coherence_that_is_not_found_says_what_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.sparse_model._STEPS", 20)
    with pytest.raises(
        ConfigError, match=r"^data\.coherence=0\.19: no 20 atoms of 12 values .* \(expected about 0\.\d"
    ):
        made(root, coherence=0.19)
    assert not list(root.glob(f"{Synthetic(coherence=0.19, dim=12, n_true=20, root=str(root)).folder.name}*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_true": 0}, "n_true=0: should be greater than 0"),
        ({"dim": 0}, "dim=0: should be greater than 0"),
        ({"l0": 30}, "l0=30: more than there are true features (expected up to n_true=20)"),
        (
            {"l0": 8, "frequencies": "power_law"},
            "l0=8: the most frequent feature would fire with probability 2.22 "
            "(expected up to 3.59 with these frequencies)",
        ),
        ({"exponent": -1}, "exponent=-1: should be greater than or equal to 0"),
        ({"coherence": 1}, "coherence=1: should be less than 1"),
        (
            {"coherence": 0.1},
            "coherence=0.1: no 20 atoms of 12 values are so far apart "
            "(expected 0.188 (Welch's bound) or more, or null)",
        ),
        (
            {"coherence": 0.5, "n_true": 1, "l0": 1},
            "coherence=0.5: a single atom has none (expected null, or a larger n_true)",
        ),
        ({"correlation": 1}, "correlation=1: should be less than 1"),
        ({"rank": 0}, "rank=0: should be greater than 0"),
        (
            {"depth": 9},
            "depth=9: a tree of 5 levels with 2 children each has 31 features (expected 1 to 4 with n_true=20)",
        ),
        (
            {"depth": 10**9, "children": 1},
            "depth=1000000000: a tree of 21 levels with 1 children each has 21 features "
            "(expected 1 to 20 with n_true=20)",
        ),
        ({"child_probability": 0}, "child_probability=0: should be greater than 0"),
        ({"child_probability": 1.5}, "child_probability=1.5: should be less than or equal to 1"),
        ({"noise": -1}, "noise=-1: should be greater than or equal to 0"),
        ({"frequencies": "zipf"}, "frequencies=zipf: should be 'uniform' or 'power_law'"),
        ({"magnitudes": "gamma"}, "magnitudes=gamma: should be 'constant', 'exponential' or 'half_normal'"),
    ],
)
def test_options_that_no_model_has(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Synthetic(**({"dim": 12, "n_true": 20, "n": 500, "l0": 3.0} | options))
    assert str(error.value) == message


@pytest.mark.parametrize("key", ["l0", "coherence"])
@pytest.mark.parametrize("n_true", [13, 20, 64, 100])
def test_a_limit_that_is_named_is_allowed(key: str, n_true: int) -> None:
    options: dict[str, Any] = {"dim": 12, "n_true": n_true, "n": 500, "l0": 1.0, "frequencies": "power_law"}
    with pytest.raises(ConfigError) as error:
        Synthetic(**(options | {key: {"l0": n_true, "coherence": 1e-3}[key]}))
    limit = re.search(r"\(expected (?:up to )?([\d.]+)", str(error.value))
    assert limit is not None
    Synthetic(**(options | {key: float(limit[1])}))


def test_probabilities_of_exactly_one_are_possible(root: Path) -> None:
    assert (_codes(made(root, n_true=3, l0=3.0, magnitudes="constant")) == 1).all()


def test_other_options_are_other_data(root: Path) -> None:
    first = made(root)
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"dim": 13}, {"n_true": 21}, {"n": 1501}, {"l0": 3.5}, {"frequencies": "power_law"},
        {"magnitudes": "constant"}, {"coherence": 0.6}, {"correlation": 0.1}, {"depth": 2}, {"noise": 0.1},
        {"bias": 0.1}, {"test_size": 7}, {"val_size": 7},
    ]  # fmt: skip
    names = {Synthetic(**({"dim": 12, "n_true": 20, "n": 1500, "l0": 3.0} | change)).folder.name for change in changes}
    assert len(names | {first.folder.name}) == len(changes) + 1


def test_one_line_tells_the_model(root: Path) -> None:
    assert made(root, depth=2).describe() == (
        "data: 20 true features of 12 values, uniform frequencies, exponential magnitudes, 2 levels, true L0 3; "
        "1,500 train, 150 val, 150 test"
    )


def test_rows_that_are_not_those_of_the_options_are_refused(root: Path) -> None:
    data = made(root, seed=99)
    file = data.folder / "test" / "0.npy"
    stored = np.load(file)
    np.save(file, stored + 1e-5)  # rounding of another processor
    assert data.truth("test", 5).codes.shape == (5, 20)
    np.save(file, stored + 1)
    with pytest.raises(UserError, match="was made with another torch or processor; delete it and repeat"):
        data.truth("test", 5)
