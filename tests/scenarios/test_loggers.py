"""The choice of loggers, from the command line to reports."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import sparse_ae
from sparse_ae.reporting.curves import read_all_curves
from sparse_ae.run.directory import Run
from tests.helpers import SMALL, Cli, train_run
from tests.scenarios.crashes import SHORT, PowerCut, copy_run, crashing

BRIEF = [*SMALL, "trainer.max_epochs=1", "trainer.limit_train_batches=6", "threads=1", "analysis=[overview]"]


def test_table_has_what_tensorboard_has(pair: tuple[Run, Run], tmp_path: Path) -> None:
    """And is read in its place where there are no event files."""
    events = read_all_curves(pair[0])
    copy = copy_run(pair[0], tmp_path / "copy")
    copy.rewind_events({})
    table = read_all_curves(copy)
    assert table.keys() == events.keys() >= {"train/loss", "val/mse", "test/mse", "train/dead_at_init"}
    for name, curve in events.items():
        assert table[name].step.tolist() == curve.step.tolist()
        np.testing.assert_allclose(table[name].value, curve.value, rtol=1e-6)
    with copy.metrics_table.open("a") as file:
        file.write("999,0.5")  # while it is being written
    assert max(read_all_curves(copy)["train/loss"].step) < 999


def test_csv_alone_makes_no_event_files_and_keeps_the_curves(tmp_path: Path, cli: Cli) -> None:
    outcome = cli("sparse-ae-train", *BRIEF, "sparsity=l1", "logger=csv", "hydra.run.dir=out/run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "tensorboard" not in outcome.out
    run = sparse_ae.open("out/run")
    assert run.event_files == []
    assert run.has_analysis("overview")
    assert {"train/loss", "val/mse", "test/mse"} <= {*run.history}
    assert run.history["test/mse"].dropna().tolist() == [run.metrics["test/mse"]]
    assert cli("sparse-ae-analyse", "run=out/run", "analysis=[sparsity]").code == 0
    assert run.event_files == []
    assert cli("sparse-ae-report", "out").code == 0
    assert (tmp_path / "out" / "report" / "curves.png").exists()


def test_no_logger_is_told_and_reports_leave_out_the_curves(tmp_path: Path, cli: Cli) -> None:
    lr = "callbacks=[learning_rate_monitor]"
    outcome = cli("sparse-ae-train", *BRIEF, "logger=[]", lr, "hydra.run.dir=out/run")
    assert (outcome.code, list(tmp_path.iterdir())) == (1, [])
    assert re.search(r"callbacks\.learning_rate_monitor: has nothing to log into \(expected a logger", outcome.err)
    outcome = cli("sparse-ae-train", *BRIEF, "logger=[]", "hydra.run.dir=out/run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("logger=[]: reports have no training curves, which they read from")
    run = sparse_ae.open("out/run")
    assert (run.event_files, run.metrics_table.exists()) == ([], False)
    assert len(run.history) == 0
    assert "data:image/" in run._repr_html_()  # its atoms
    assert cli("sparse-ae-report", "out").code == 0
    assert not (tmp_path / "out" / "report" / "curves.png").exists()
    assert "Not drawn: no run has readable TensorBoard files" in (tmp_path / "out" / "report.html").read_text()


def test_logger_that_is_added_logs_from_there_on(tmp_path: Path) -> None:
    """The hash is the same, and so is the run."""
    before = [*SHORT, "logger=csv"]
    with crashing(12, PowerCut):
        train_run(tmp_path / "run", *before)
    run = train_run(tmp_path / "run", *SHORT, "callbacks=[learning_rate_monitor]")
    assert run.status.attempts == 2
    curves = read_all_curves(run)
    assert curves["train/loss"].step.tolist()[0] > 8
    assert curves["lr-Adam"].step.tolist()[-1] == 23
    assert [int(line.partition(",")[0]) for line in run.metrics_table.read_text().splitlines()[1:]][:2] == [0, 3]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_logger_that_is_not_installed(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name, as offline runs have it, is no package."""
    if importlib.util.find_spec(name) is not None:
        pytest.skip("it is installed")
    here = tmp_path_factory.mktemp("here")
    (here / name).mkdir()
    monkeypatch.syspath_prepend(here)
    for command in ("train", "fit"):
        outcome = cli(f"sparse-ae-{command}", f"logger=[tensorboard,{name}]")
        reason = f"logger={name}: not installed; pip install 'sparse-ae[{name}]' brings it"
        assert (outcome.code, outcome.err) == (1, f"sparse-ae-{command}: error: {reason}\n")
    assert list(tmp_path.iterdir()) == []
