"""MLflow and Weights & Biases, read back through MLflow's own client and from W&B's file. Both are extras."""

import importlib
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparse_ae.run.directory import Run
from tests.helpers import train_run
from tests.processes import start, wait_until
from tests.scenarios.crashes import SHORT

pytestmark = pytest.mark.filterwarnings("default")  # what is none of our business

Points = list[tuple[int, float]]


def _mlflow(run: Run) -> dict[str, Points]:
    """Every metric of the only run of MLflow beside ``run``, as logged."""
    tracking = importlib.import_module("mlflow.tracking")
    client = tracking.MlflowClient(f"sqlite:///{run.path.parent / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == run.path.parent.name)
    (found,) = (r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == run.path.name)
    assert found.info.status == "FINISHED"
    assert found.data.params["sparsity"] == "kl"
    assert found.data.params["model.latent_dim"] == "16"
    assert "trainer.gradient_clip_val" not in found.data.params
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    return {name: [(point.step, point.value) for point in points] for name, points in history.items()}


def _wandb(folder: Path) -> dict[str, Points]:
    """Every number in the file of one attempt."""
    points = defaultdict(list)
    for record in _records(next(folder.glob("*.wandb"))):
        row = {".".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for name, text in row.items():
            if name.startswith(("train/", "val/", "test/")) and not text.startswith("{"):
                points[name].append((int(row["trainer/global_step"]), float(text)))
    return dict(points)


def _records(file: Path) -> Iterator[Any]:
    """Records in LevelDB's log format: blocks of 32 KiB, each record with checksum, length and kind before it."""
    protocol = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content, at, message = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        message += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            record = protocol.Record()
            record.ParseFromString(message)
            yield record
            message = b""


def _table(run: Run) -> dict[str, Points]:
    """Every metric of the CSV logger."""
    table = pd.read_csv(run.metrics_table).set_index("step")
    return {name: list(column.dropna().items()) for name, column in table.items()}


def _killed_and_resumed(folder: Path, tracker: str) -> Run:
    """A finished run, with ``tracker`` beside the table, that was killed once it had a checkpoint."""
    pytest.importorskip(tracker)
    overrides = [*SHORT, "trainer.limit_train_batches=50", "checkpoint.every_n_minutes=0.001"]
    overrides.append(f"logger=[csv,{tracker}]")
    run = Run(folder)
    process = start(run.path, *overrides)
    wait_until(run.last_checkpoint.exists)
    process.kill()
    process.join()
    start(run.path, *overrides).join()
    assert (run.read_state(), run.status.attempts) == ("finished", 2)
    return run


@pytest.mark.slow
def test_a_killed_run_continues_its_run_of_mlflow(tmp_path: Path) -> None:
    """It has each step once, as an uninterrupted one."""
    run = _killed_and_resumed(tmp_path / "run", "mlflow")
    logged = _mlflow(run)
    assert logged == _table(run)
    assert {"train/loss", "val/mse", "test/mse"} <= logged.keys()
    images = [path.name.partition("+")[0] for path in (tmp_path / "mlartifacts").rglob("*.png")]
    assert {*images} == {"reconstructions", "features"}


@pytest.mark.slow
def test_a_killed_run_has_two_folders_of_one_id_in_wandb(tmp_path: Path) -> None:
    run = _killed_and_resumed(tmp_path / "run", "wandb")
    first, second = sorted((run.path / "wandb").glob("offline-run-*"))
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]
    expected = _table(run)
    logged = _wandb(second)
    for name, points in expected.items():
        assert logged.get(name, []) == points[len(points) - len(logged.get(name, [])) :]
    assert logged["test/mse"] == expected["test/mse"]
    assert {path.name.partition("_")[0] for path in second.rglob("*.png")} == {"features", "reconstructions"}


@pytest.mark.slow
def test_a_run_that_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    run = train_run(tmp_path / "run", *SHORT, "logger=[csv,mlflow,wandb]", "callbacks=[learning_rate_monitor]")
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    expected = _table(run)
    assert _mlflow(run) == expected
    logged = _wandb(folder)
    assert logged == {name: points for name, points in expected.items() if name != "lr-Adam"}
