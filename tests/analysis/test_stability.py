"""Stability between seeds, on runs made by hand: nothing is trained."""

import copy
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from sparse_ae.analysis import Result, stability
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.models import build_autoencoder
from sparse_ae.plotting.style import to_png
from sparse_ae.run.directory import Run
from sparse_ae.run.export import save_model
from tests.analysis.subjects import subject_of
from tests.helpers import plain_config

OPTIONS = {"runs": None, "high_cosine": 0.9, "n_pairs": 3}
SETTINGS = ["model=linear", "model.tied=true", "model.latent_dim=5", "sparsity=l1"]
ATOMS = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))


@functools.cache
def _composed(*overrides: str) -> dict[str, Any]:
    return plain_config(*SETTINGS, *overrides)


def _make_run(
    folder: Path,
    atoms: torch.Tensor,
    *overrides: str,
    seed: int = 2,
    data_seed: int | None = None,
    dead: tuple[int, ...] = (),
    finished: bool = True,
) -> Run:
    """A run as training leaves it, with these atoms; the units ``dead`` are, and no other."""
    config, run = copy.deepcopy(_composed(*overrides)), Run(folder)
    config["seed"], config["data"]["seed"] = seed, seed if data_seed is None else data_seed
    spec = config["model"] | {"latent_dim": len(atoms)}
    folder.mkdir(exist_ok=True)
    run.start(config=config, resumed=False, sources={"config.yaml": OmegaConf.to_yaml(config)}, threads=1)
    model = build_autoencoder(spec, config["sparsity"], input_dim=atoms.shape[1])
    with torch.no_grad():
        model.network.atoms.copy_(atoms)
        model.network.encoder_bias.fill_(100)
        model.network.encoder_bias[list(dead)] = -100
    model.input_shape = (1, 4, atoms.shape[1] // 4)
    save_model(run, model, network=spec, sparsity=config["sparsity"])
    run.add_metrics({"test/mse": 0.0})
    run.record.end("finished" if finished else "failed", config)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return _make_run(tmp_path / "own", ATOMS, seed=1)


def _analyse(run: Run | None, atoms: torch.Tensor = ATOMS, z: torch.Tensor | None = None, **options: Any) -> Result:
    z = torch.ones(3, len(atoms)) if z is None else z
    return stability.analyse(subject_of(z, atoms, run=run), **{**OPTIONS, **options})


def _abs_cosines(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    return np.abs(torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=2).numpy())


def test_the_matching_is_the_best_of_all() -> None:
    for seed, (n, m) in enumerate([(5, 5), (3, 6), (6, 4)]):
        generator = torch.Generator().manual_seed(seed)
        first, second = torch.randn(n, 7, generator=generator), torch.randn(m, 7, generator=generator)
        found = stability.match(stability.cosines_between(first, second))
        cosines = _abs_cosines(first, second)
        cosines = cosines if n <= m else cosines.T
        sums = [
            sum(cosines[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(max(n, m)), min(n, m))
        ]
        assert np.abs(found.cosine).sum() == pytest.approx(max(sums), rel=1e-5)
        assert len(set(found.first)) == len(set(found.second)) == min(n, m)
        assert (np.diff(np.abs(found.cosine)) <= 0).all()
        signed = torch.nn.functional.cosine_similarity(first[found.first.tolist()], second[found.second.tolist()])
        np.testing.assert_allclose(found.cosine, signed, atol=1e-6)


def test_of_many_atoms_some_are_found_among_those_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    first, order = torch.randn(50, 16, generator=generator), torch.randperm(50, generator=generator)
    monkeypatch.setattr(stability, "_MOST_COSINES", 50)
    monkeypatch.setattr(stability, "_MOST_MATCHED", 8)
    found = stability.match_atoms(first, -first[order])
    assert sorted(found.first) == list(range(0, 50, 7))
    assert order[found.second].tolist() == found.first.tolist()
    np.testing.assert_allclose(found.cosine, -1, rtol=1e-6)


def test_the_same_atoms_in_another_order_and_with_another_sign_are_found(run: Run, tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    _make_run(tmp_path / "other", -ATOMS[order])
    result = _analyse(run)
    assert result.numbers["matched_cosine"] == pytest.approx(1)
    assert result.numbers["matched_cosine_median"] == pytest.approx(1)
    assert result.numbers["high_cosine_share"] == 1
    assert [order[i] for i in result.arrays["other_unit_0"]] == result.arrays["unit_0"].tolist()
    np.testing.assert_allclose(result.arrays["cosine_0"], -1, rtol=1e-6)


def test_dead_units_and_zero_atoms_are_left_out_and_counted(run: Run, tmp_path: Path) -> None:
    _make_run(tmp_path / "other", ATOMS, dead=(1, 3))
    z = torch.ones(3, 5)
    z[:, 1] = 0
    zeroed = ATOMS.clone()
    zeroed[0] = 0
    numbers = _analyse(run, zeroed, z).numbers
    assert (numbers["units"], numbers["dead_units"]) == (5, 1)
    (pair,) = numbers["pairs"]
    assert (pair["run"], pair["units"], pair["dead_units"], pair["matched"]) == ("other", 5, 2, 3)
    # Left are 2, 3, 4 here and 0, 2, 4 there.
    cosines = _abs_cosines(ATOMS[[2, 3, 4]], ATOMS[[0, 2, 4]])
    matched = [1, cosines[1, 0], 1]
    assert pair["matched_cosine"] == pytest.approx(np.mean(matched), rel=1e-5)
    assert pair["high_cosine_share"] == pytest.approx(2 / 3)
    assert pair["unmatched_cosine"] == pytest.approx(cosines.mean(), rel=1e-5)


def test_siblings_differ_in_the_seed_alone(run: Run, tmp_path: Path) -> None:
    others = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(4))
    _make_run(tmp_path / "a", others[0], seed=2)
    _make_run(tmp_path / "b", others[1], "data.storage=host", "analysis=[]", seed=3)  # changes nothing that matters
    _make_run(tmp_path / "c", ATOMS, "optimizer.lr=0.5", seed=2)
    _make_run(tmp_path / "d", ATOMS, seed=4, finished=False)
    damaged = _make_run(tmp_path / "e", ATOMS, seed=5)
    (damaged.path / "status.json").write_text("{")
    _make_run(tmp_path / "same", ATOMS, seed=1)  # a copy
    (tmp_path / "notes.txt").write_text("no run")
    (tmp_path / "folder").mkdir()
    result = _analyse(run)
    assert [pair["run"] for pair in result.numbers["pairs"]] == ["a", "b"]
    means = [pair["matched_cosine"] for pair in result.numbers["pairs"]]
    assert result.numbers["matched_cosine"] == pytest.approx(np.mean(means))
    reference = [stability.match(_abs_cosines(ATOMS, other)).cosine.mean() for other in others]
    assert means == pytest.approx(reference, rel=1e-5)
    named = _analyse(run, runs=[Run(tmp_path / "c")])
    assert [pair["run"] for pair in named.numbers["pairs"]] == ["c"]


def test_runs_on_other_true_features_are_no_siblings(tmp_path: Path) -> None:
    own = _make_run(tmp_path / "own", ATOMS, "data=synthetic", seed=1)
    _make_run(tmp_path / "other", ATOMS, "data=synthetic", seed=2)
    with pytest.raises(ValueError, match=r"^runs=null: no .* seed alone \(data\.seed=0 .*\); train another seed first"):
        _analyse(own)
    _make_run(tmp_path / "same", ATOMS, "data=synthetic", seed=2, data_seed=1)
    assert [pair["run"] for pair in _analyse(own).numbers["pairs"]] == ["same"]


@pytest.mark.parametrize("of_a_run", [True, False])
def test_without_another_run_one_line_says_what_is_needed(run: Run, of_a_run: bool) -> None:
    with pytest.raises(ValueError, match=r"^runs=null: no .*; train .* \(expected folders of finished runs\)$"):
        _analyse(run if of_a_run else None)


def test_a_run_that_is_none_or_takes_other_images_is_refused(run: Run, tmp_path: Path) -> None:
    nowhere = {"_target_": "sparse_ae.analysis.stability.analyse", "_partial_": True, "runs": [str(tmp_path / "no")]}
    with pytest.raises(ConfigError, match=r"analysis\.stability\.runs=.*no: no such folder"):
        build({**nowhere, "high_cosine": 0.9, "n_pairs": 2}, "analysis.stability")
    with pytest.raises(ValueError, match=r"^runs=.*: the run itself \(expected folders of other runs\)$"):
        _analyse(run, runs=[run])
    _make_run(tmp_path / "small", torch.rand(5, 8))
    with pytest.raises(ValueError, match=r"^runs=.*small: takes 8 values per sample \(expected runs that take 16\)$"):
        _analyse(run, runs=[Run(tmp_path / "small")])


def test_nulls(run: Run, tmp_path: Path) -> None:
    """40 random atoms against 40 others are worth as much as random directions; images are all positive."""
    atoms = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(5))
    _make_run(tmp_path / "other", atoms[0])
    numbers = _analyse(run, atoms[1]).numbers
    assert numbers["matched_cosine"] == pytest.approx(numbers["random_cosine"], abs=0.05)
    assert numbers["unmatched_cosine"] < numbers["matched_cosine"] - 0.2
    # Of atoms that have a common part and nothing else, random pairs are as alike as matched ones.
    common = 1 + 0.01 * torch.rand(2, 40, 16, generator=torch.Generator().manual_seed(6))
    _make_run(tmp_path / "other", common[0])
    numbers = _analyse(run, common[1]).numbers
    assert numbers["unmatched_cosine"] == pytest.approx(numbers["matched_cosine"], abs=1e-3)
    assert 0.7 < numbers["sample_cosine"] < numbers["matched_cosine"]


@pytest.mark.parametrize("units", [0, 1], ids=["all dead", "one unit"])
def test_degenerate(run: Run, tmp_path: Path, units: int) -> None:
    _make_run(tmp_path / "other", ATOMS[:1], dead=(0,) if units == 0 else ())
    result = _analyse(run, ATOMS, torch.ones(1, 5) * units)
    json.dumps(result.numbers, allow_nan=False)
    assert (result.numbers["matched_cosine"] is None) == (units == 0)
    assert result.numbers["pairs"][0]["matched"] == units
    for figure in result.figures.values():
        assert to_png(figure, dpi=20).startswith(b"\x89PNG")
    texts = [text.get_text() for text in result.figures["matched_atoms"].axes[0].texts]
    assert ("nothing to match" in texts) == (units == 0)


def test_figures_show_what_was_measured(run: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 2), ("b", 3)):
        _make_run(tmp_path / name, torch.randn(5, 16, generator=torch.Generator().manual_seed(seed)), seed=seed)
    result = _analyse(run, n_pairs=2)
    axes = result.figures["matched_cosines"].axes[0]
    curves = {line.get_label(): line.get_ydata() for line in axes.lines}
    for i, name in enumerate(("a", "b")):
        np.testing.assert_allclose(curves[name], np.abs(result.arrays[f"cosine_{i}"]))
    assert sum("null" in str(label) for label in curves) == 3
    texts = [text.get_text() for text in result.figures["matched_atoms"].axes[0].texts]
    shown = [f"{value:.2f}" for value in result.arrays["cosine_0"]]
    assert texts == ["best", *shown[:2], "median", *shown[1:3], "worst", *shown[3:]]
