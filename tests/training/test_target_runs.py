"""A target from the command line to the run directory."""

import json
from pathlib import Path

import pytest
import torch

import sparse_ae
from sparse_ae.run.directory import Run
from tests.helpers import SMALL, Cli, train_run

FAST = [*SMALL, "visuals.every_n_epochs=100"]


@pytest.mark.parametrize("method", ["topk", "k_sparse"])
def test_methods_that_keep_k_units_take_the_target_as_k(method: str, tmp_path: Path, cli: Cli) -> None:
    ended = cli("sparse-ae-train", *FAST, f"sparsity={method}", "target=l0", "target.value=5", "hydra.run.dir=run")
    assert ended.code == 0
    run = Run(tmp_path / "run")
    assert run.status.target == {"measure": "l0", "wanted": 5, "reached": 5, "met": True, "reason": ""}
    assert run.read_model_spec()["sparsity"]["k"] == 5
    model = sparse_ae.load(run)
    assert ((model.encode(torch.rand(20, 784)) != 0).sum(dim=1) == 5).all()


def test_a_target_that_is_missed_is_told_on_the_console_and_in_the_status(tmp_path: Path, cli: Cli) -> None:
    ended = cli("sparse-ae-train", *FAST, "sparsity=l1", "target=l0", "target.value=2", "hydra.run.dir=run")
    assert ended.code == 0
    run = Run(tmp_path / "run")
    target = run.status.target
    assert target["met"] is False
    assert target["reached"] == pytest.approx(run.metrics["val/l0"])
    assert target["reason"].startswith("target l0=2 is not met: val/l0 is ")
    assert f"warning: {target['reason']}" in ended.out
    assert target["reason"] in run.log.read_text()


def test_a_path_is_recorded_with_its_figures(tmp_path: Path) -> None:
    run = train_run(tmp_path, *FAST, "sparsity=l1", "model=linear", "target=coefficient_path", "trainer.max_epochs=4")
    folder = run.path / "analysis" / "coefficient_path"
    points = json.loads((folder / "result.json").read_text())["points"]
    coefficients = [point["coefficient"] for point in points]
    assert coefficients == sorted(coefficients)
    assert len(set(coefficients)) == 4
    assert coefficients[-1] == pytest.approx(0.01 * 30)
    assert points[-1]["val/l0"] == run.metrics["val/l0"]
    assert (folder / "path.png").stat().st_size > 10_000
    assert (folder / "front.png").stat().st_size > 10_000
    assert "target" not in run.status


def test_dead_units_are_counted_from_the_start(tmp_path: Path) -> None:
    overrides = [
        "sparsity=topk",
        "sparsity.k=1",
        "model=linear",
        "model.latent_dim=512",
        "model.b_pre=zeros",
        "dead=resample",
        "dead.every_epochs=1",
        "dead.until=1",
    ]
    run = train_run(tmp_path, *FAST, *overrides, "trainer.max_epochs=3")
    assert 0 < run.metrics["train/dead_at_init"] < 512
    assert "dead units re-initialised" in run.log.read_text()
