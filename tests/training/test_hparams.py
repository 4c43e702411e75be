"""TensorBoard's HParams tab, read back through TensorBoard's own backend from event files."""

from pathlib import Path

import pytest

from sparse_ae.cli.compose import compose, composing, sources, task_config
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.jobs.coder import CoderJob
from sparse_ae.run.directory import Run
from tests.events import hparams_tab


def _begin(folder: Path, *overrides: str, command: str = "train") -> None:
    """Begin and end a run as a command does, with no training in between."""
    kind = CoderJob if command == "fit" else AutoencoderJob
    with composing():
        config = compose(command, list(overrides))
        job = kind(task_config(config), Run(folder))
        folder.mkdir(parents=True)
        job.run.start(config=job.config, resumed=False, sources=sources(config), threads=1)
    job.loggers.begin(job.options, None)
    job.loggers.log_metrics({"test/mse": 0.5}, step=3)
    job.loggers.finish()


def test_a_sweep_over_methods_shows_the_keys_of_all(tmp_path: Path) -> None:
    for method in ("l1", "kl", "topk"):
        _begin(tmp_path / method, f"sparsity={method}", "model=linear", "trainer=debug")
    tab = hparams_tab(tmp_path, "sparsity")
    assert tab.names[0] == "sparsity"
    assert tab.differing == ["sparsity"]
    assert {"sparsity.coefficient", "sparsity.rho", "sparsity.k"} <= {*tab.names}
    assert list(tab.rows) == ["kl", "l1", "topk"]
    assert [row["sparsity"] for row in tab.rows.values()] == ["kl", "l1", "topk"]
    assert "sparsity.rho" not in tab.rows["l1"]
    assert tab.rows["kl"]["sparsity.rho"] == 0.05
    assert tab.metrics == ["test/mse"]
    assert tab.results == {method: {"test/mse": 0.5} for method in ("kl", "l1", "topk")}


def test_options_have_their_names_and_what_changes_no_result_is_left_out(tmp_path: Path) -> None:
    _begin(tmp_path / "run", "sparsity=l1", "model=linear", "scheduler=cosine", "dead=auxk", "trainer=debug")
    row = hparams_tab(tmp_path).rows["run"]
    chosen = {"model": "linear", "sparsity": "l1", "data": "mnist", "target": "none", "dead": "auxk"}
    chosen |= {"optimizer": "adam", "scheduler": "cosine", "trainer": "debug", "checkpoint": "runcheckpoint"}
    assert {name: value for name, value in row.items() if "." not in name and isinstance(value, str)} == {
        **chosen,
        "matmul_precision": "highest",
    }
    noise = ("_target_", "_partial_", "analysis", "visuals", "root", "device", "rerun", "threads")
    assert [name for name in row if any(part in name.split(".") for part in noise)] == []
    assert not any("/" in str(value) for name, value in row.items() if name != "checkpoint.monitor")


def test_values_keep_their_types(tmp_path: Path) -> None:
    _begin(tmp_path / "run", "model=mlp", "model.hidden_sizes=[64,32]", "optimizer.fused=false", "optimizer.lr=1e-3")
    tab = hparams_tab(tmp_path)
    row, types = tab.rows["run"], {column["name"]: column["type"] for column in tab.columns}
    shown = {"model.hidden_sizes": "[64, 32]", "optimizer.fused": False, "optimizer.lr": 0.001, "seed": 42}
    assert {name: row[name] for name in shown} == shown
    assert types["optimizer.fused"] == "DATA_TYPE_BOOL"
    assert types["optimizer.lr"] == types["seed"] == "DATA_TYPE_FLOAT64"
    assert types["model.hidden_sizes"] == "DATA_TYPE_STRING"
    assert "trainer.gradient_clip_val" not in row


def test_what_differs_comes_first(tmp_path: Path) -> None:
    """Also where an option is missing in some runs, and sorted by it."""
    sweep = {
        "a": ["target=l0", "trainer.gradient_clip_val=1.0"],
        "b": ["optimizer.lr=0.01", "trainer.gradient_clip_val=0.5"],
        "c": ["scheduler=cosine", "optimizer.fused=false"],
    }
    for name, overrides in sweep.items():
        _begin(tmp_path / name, "sparsity=l1", "model=linear", *overrides)
    differing = ["optimizer.fused", "optimizer.lr", "scheduler", "target", "trainer.gradient_clip_val"]
    assert hparams_tab(tmp_path).names[:5] == differing
    for key in differing:
        assert {*hparams_tab(tmp_path, key).rows} == {*sweep}
    assert list(hparams_tab(tmp_path, "trainer.gradient_clip_val").rows) == ["b", "a", "c"]


def test_classical_coders_stand_in_the_columns_of_methods(tmp_path: Path) -> None:
    _begin(tmp_path / "default" / "l1", "sparsity=l1", "model=linear")
    _begin(tmp_path / "coders" / "ksvd", "coder=ksvd", "coder.latent_dim=64", command="fit")
    tab = hparams_tab(tmp_path)
    assert tab.names[:2] == ["model.latent_dim", "sparsity"]
    assert [tab.rows[name]["sparsity"] for name in ("default/l1", "coders/ksvd")] == ["l1", "ksvd"]
    assert [tab.rows[name]["model.latent_dim"] for name in ("default/l1", "coders/ksvd")] == [128, 64]
    assert tab.rows["coders/ksvd"]["coder.n_nonzero"] == 32


def test_a_trained_run_has_its_metrics(finished_run: Path) -> None:
    """The row and the metrics, which a run writes itself, are those of ``metrics.json``."""
    tab = hparams_tab(finished_run.parent)
    assert tab.rows[finished_run.name]["sparsity"] == "l1"
    assert tab.rows[finished_run.name]["sparsity.coefficient"] == 0.01
    metrics = Run(finished_run).metrics
    assert {*tab.metrics} >= {name for name in metrics if name.startswith(("test/", "val/"))}
    assert tab.metrics[0].startswith("test/")
    for name in ("test/mse", "val/l0"):
        assert tab.results[finished_run.name][name] == pytest.approx(metrics[name], rel=1e-6)
