"""Names, hashes and the run directory's files."""

import copy
import errno
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from sparse_ae.atomic import make_writable, write_atomically
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunBusyError, RunError
from sparse_ae.run.naming import config_hash, run_name
from sparse_ae.run.status import Status
from tests.helpers import plain_config
from tests.processes import without_locks


def test_names_are_readable() -> None:
    assert run_name(plain_config(), {"sparsity": "kl"}).rpartition("-")[0] == "kl-w0.01-n128-s42"
    config = plain_config("sparsity=l1", "sparsity.coefficient=1e-4", "model.latent_dim=64", "seed=7")
    assert run_name(config, {"sparsity": "l1"}).rpartition("-")[0] == "l1-w0.0001-n64-s7"
    assert run_name(plain_config("sparsity=none"), {"sparsity": "none"}).rpartition("-")[0] == "none-n128-s42"
    config = plain_config("model=matching_pursuit", "model.k=10", "sparsity=none")
    choices = {"model": "matching_pursuit", "sparsity": "none"}
    assert run_name(config, choices).rpartition("-")[0] == "matching_pursuit-k10-n128-s42"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": None}, "kl-w0.01-n128-sNone"),
        ({"model": None}, "kl-w0.01-s42"),
        ({"sparsity": "kl"}, "kl-n128-s42"),
        ({"target": {"measure": 5}}, "kl-5-None-n128-s42"),
        ({"data": None, "trainer": []}, "kl-w0.01-n128-s42"),
    ],
)
def test_a_config_with_mistakes_has_a_name_too(change: dict[str, Any], name: str) -> None:
    """They are found when it is built, and the folder is named before."""
    assert run_name(plain_config() | change, {"sparsity": "kl"}).rpartition("-")[0] == name


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "sparsity.rho=0.1",
        "sparsity.reduction=sum",
        "sparsity.warmup_steps=5",
        "model.hidden_sizes=[128]",
        "model.latent_dim=64",
        "data.val_size=0",
        "data.batch_size=64",
        "data=kmnist",
        "optimizer.lr=0.01",
        "optimizer=sgd",
        "scheduler=cosine",
        "trainer.max_epochs=3",
        "trainer.limit_train_batches=10",
        "trainer.gradient_clip_val=1.0",
        "trainer.precision=bf16-mixed",
        "active_threshold=0.2",
        "checkpoint.monitor=val/l0",
        "resume=another.ckpt",
        "trainer.limit_train_batches=1",
        "callbacks=[early_stopping]",
    ],
)
def test_what_changes_the_result_changes_the_hash(override: str) -> None:
    assert config_hash(plain_config(override)) != config_hash(plain_config())


@pytest.mark.parametrize(
    "override",
    [
        "data.root=/elsewhere",
        "callbacks=[learning_rate_monitor]",
        "fail_fast=true",
        "logger=[csv]",
        "logger=[]",
        "sparsity.coefficient=0.010",
        "optimizer.weight_decay=0",
        "data.storage=host",
        "data.device=cpu",
        "data.num_workers=2",
        "data.eval_batch_size=10",
        "analysis=[]",
        "visuals.every_n_epochs=1",
        "trainer.enable_progress_bar=false",
        "trainer.log_every_n_steps=7",
        "threads=1",
        "checkpoint.every_n_minutes=1",
        "rerun=all",
        "resume=true",
        "hydra.run.dir=/elsewhere",
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_hash(override: str) -> None:
    assert config_hash(plain_config(override)) == config_hash(plain_config())


def test_hashing_leaves_the_config_alone_and_does_not_depend_on_order() -> None:
    config = plain_config()
    before = copy.deepcopy(config)
    backwards = dict(reversed(config.items()))
    assert config_hash(config) == config_hash(backwards)
    assert config == before


@pytest.mark.parametrize("system", [nullcontext, lambda: without_locks(errno.ENOLCK)], ids=["locks", "no locks"])
def test_life_of_a_run(tmp_path: Path, system: Callable[[], AbstractContextManager[None]]) -> None:
    with system():
        _live(Run(tmp_path))


def _live(run: Run) -> None:
    config = plain_config()
    assert run.status == Status()
    assert run.metrics == {}
    run.start(config=config, resumed=False, sources={"config.yaml": "a: 1"}, threads=2)
    status = run.status
    assert status.state == "running"
    assert run.read_state() == "interrupted"  # nobody holds its lock
    with run.lock():
        assert run.read_state() == "running"
        with pytest.raises(RunBusyError, match=rf"is being trained by process {status.pid} on "), run.lock():
            pass
    run.record.note_progress(0.25)
    assert run.status.progress == 0.25
    run.mark_killed("killed")
    assert (run.status.state, run.status.error) == ("interrupted", "killed")
    assert status.config_hash == config_hash(config)
    assert status.seed == 42
    assert {"torch", "lightning", "sparse-ae"} <= status.versions.keys()
    run.add_metrics({"val/mse": 0.5, "val/hoyer": float("nan")})
    run.add_metrics({"test/mse": 0.25})
    assert run.metrics == {"val/mse": 0.5, "val/hoyer": None, "test/mse": 0.25}
    run.record.end("failed", config, "why")
    assert (run.status.state, run.status.error) == ("failed", "why")
    assert run.status.wall_seconds >= 0
    json.loads(run.record.path.read_text())


def test_starting_over_removes_what_the_last_attempt_left_and_resuming_keeps_it(run_copy: Path) -> None:
    run, config = Run(run_copy), plain_config()
    run.start(config=config, resumed=True, sources={}, threads=1)
    assert run.last_checkpoint.exists()
    assert run.metrics
    run.start(config=config, resumed=False, sources={"config.yaml": "a: 1"}, threads=2)
    left = {path.name for path in run_copy.iterdir()}
    assert left - {"train.log"} == {".hydra", ".lock", "status.json"}
    assert (run_copy / ".hydra" / "config.yaml").read_text() == "a: 1"


def test_fit_seconds_are_those_of_the_attempt_that_fitted(tmp_path: Path) -> None:
    run, config = Run(tmp_path), plain_config()
    run.start(config=config, resumed=False, sources={}, threads=1)
    assert run.status.fit_seconds is None
    run.record.note_fitted()
    fitted = run.status.fit_seconds
    assert fitted > 0
    run.record.end("interrupted", config)
    run.start(config=config, resumed=True, sources={}, threads=1)
    run.record.note_fitted()
    assert run.status.wall_seconds > run.status.fit_seconds == fitted
    run.start(config=config, resumed=True, sources={}, threads=1, repeats=True)
    assert run.status.fit_seconds is None
    run.record.note_fitted()
    assert run.status.fit_seconds > fitted


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_make_writable(tmp_path: Path) -> None:
    make_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/run: cannot be written"):
        make_writable(tmp_path / "file" / "run")


def _no_status(folder: Path) -> None:
    (folder / "status.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / ".hydra" / "config.yaml").write_text("a: [")


def _list_config(folder: Path) -> None:
    (folder / ".hydra" / "config.yaml").write_text("- 1")


def _broken_status(folder: Path) -> None:
    (folder / "status.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_status, "not a run's folder"),
        (_broken_config, "cannot be read"),
        (_list_config, "holds no configuration"),
        (_broken_status, "is damaged"),
    ],
)
def test_foreign_and_damaged_folders_are_named(run_copy: Path, damage: Any, message: str) -> None:
    damage(run_copy)

    def read() -> tuple[object, ...]:
        run = Run.open(run_copy)
        return run.config, run.status

    with pytest.raises(RunError, match=message) as error:
        read()
    assert str(run_copy) in str(error.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        Run.open(tmp_path / "nowhere")


def test_a_run_that_ends_between_two_looks_is_finished_and_not_interrupted(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(run_copy)
    finished = (run_copy / "status.json").read_text()
    (run_copy / "status.json").write_text(finished.replace('"finished"', '"running"', 1))

    def ends(_: Run) -> bool:
        (run_copy / "status.json").write_text(finished)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Run, "is_locked", property(ends))
        assert run.read_state() == "finished"
    (run_copy / "status.json").write_text(finished.replace('"finished"', '"running"', 1))
    assert run.read_state() == "interrupted"
