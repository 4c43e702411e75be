"""Real kills and signals: processes of their own, stopped at a moment that nobody chose, resumed by the next."""

import os
import random
import signal
from pathlib import Path

import pytest

from sparse_ae.runs.checkpoint import read_checkpoint
from sparse_ae.runs.directory import Run
from tests.events import logged
from tests.processes import command, start, wait_until
from tests.scenarios.crashes import SHORT, WARMUP, assert_same


def test_resume_after_kill(tmp_path: Path) -> None:
    """One SIGKILL, once a checkpoint is there."""
    overrides = [*SHORT, WARMUP, "trainer.limit_train_batches=50", "checkpoint.every_n_minutes=0.001"]
    whole, half = Run(tmp_path / "whole"), Run(tmp_path / "half")
    process = start(half.path, *overrides)
    wait_until(half.last_checkpoint.exists)
    process.kill()
    process.join()
    assert half.read_state() == "interrupted"
    for run in (half, whole):
        start(run.path, *overrides).join()
    assert half.status.attempts == 2
    assert_same(half, whole)


@pytest.mark.slow
def test_resume_after_twenty_kills(tmp_path: Path) -> None:
    """Real SIGKILLs, each attempt a process of its own, in training, validation, saving, logging, testing."""
    overrides = [
        *SHORT,
        WARMUP,
        "trainer.max_epochs=20",
        "trainer.limit_train_batches=30",
        "checkpoint.every_n_minutes=0.001",
    ]
    whole, half = Run(tmp_path / "whole"), Run(tmp_path / "half")
    start(whole.path, *overrides).join()
    seconds = whole.status.wall_seconds
    moments = random.Random(0)
    kills = 0
    while kills < 20:
        attempts = half.status.attempts
        process = start(half.path, *overrides)
        wait_until(lambda: half.status.attempts > attempts or process.exitcode is not None)  # noqa: B023
        process.join(moments.uniform(0, seconds / 5))
        process.kill()
        process.join()
        if half.read_state() == "finished":  # sooner than the kills: once more from the start
            assert_same(half, whole)
            half = Run(tmp_path / f"half{kills}")
        else:
            assert half.read_state() == ("interrupted" if half.status.attempts else "new")
            kills += 1
    start(half.path, *overrides).join()
    assert_same(half, whole)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_signal_stops_after_step(tmp_path: Path, number: signal.Signals, code: int) -> None:
    often = ["trainer.log_every_n_steps=1", "checkpoint.every_n_minutes=0.001"]
    overrides = [*SHORT, "trainer.max_epochs=2", "trainer.limit_train_batches=200", *often]
    run, whole = Run(tmp_path / "run"), Run(tmp_path / "whole")
    process = start(run.path, *overrides)
    wait_until(run.last_checkpoint.exists)
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == code
    assert run.read_state() == "interrupted"
    assert run.status.error == ("SIGTERM" if code == 143 else "Ctrl-C")
    step = read_checkpoint(run.last_checkpoint)["global_step"]
    assert step < 200, "it stopped only at the end of an epoch"
    assert max(record[1] for record in logged(run.path)) == step  # and no step was made after it
    start(run.path, *overrides).join()
    start(whole.path, *overrides).join()
    assert_same(run, whole)


@pytest.mark.slow
def test_command_resumes(tmp_path: Path) -> None:
    overrides = [*SHORT, "trainer.limit_train_batches=200", "hydra.run.dir=run"]
    overrides.remove("trainer.enable_progress_bar=false")
    run = Run(tmp_path / "run")
    process = command(tmp_path, *overrides)
    wait_until(run.last_checkpoint.exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    again = command(tmp_path, *overrides)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert out.startswith("run: resuming from last.ckpt (33% done)")
    assert run.status.attempts == 2


@pytest.mark.slow
def test_resume_two_ranks(tmp_path: Path) -> None:
    ddp = [*SHORT, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.limit_train_batches=60"]
    run, whole = Run(tmp_path / "run"), Run(tmp_path / "whole")
    process = command(tmp_path, *ddp, "hydra.run.dir=run")
    wait_until(run.last_checkpoint.exists)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    for folder in ("run", "whole"):
        process = command(tmp_path, *ddp, f"hydra.run.dir={folder}")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert_same(run, whole)
