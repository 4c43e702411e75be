"""Runs that are cut off at a chosen moment, and their comparison with runs that were left alone."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer

from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.run.directory import Run
from tests.events import logged
from tests.helpers import train_run
from tests.processes import start, wait_until

EVERY_STEP = "checkpoint.every_n_minutes=1e-9"
"""A checkpoint after every step."""
SHORT = [
    "trainer.max_epochs=3",
    "trainer.limit_train_batches=8",
    "trainer.log_every_n_steps=3",
    "visuals.every_n_epochs=2",
    "scheduler=cosine",
    "analysis=[]",
    "trainer.enable_progress_bar=false",
    "threads=1",
    "model.latent_dim=16",
    "data.batch_size=32",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "logger=[tensorboard,csv]",
]
WARMUP = "sparsity.warmup_steps=12"


def assert_same(run: Run, whole: Run) -> None:
    """Check that two finished runs have the same weights and metrics and logged the same, each step once in order."""
    assert run.read_state() == whole.read_state() == "finished"
    assert run.weights.read_bytes() == whole.weights.read_bytes()
    assert run.metrics == whole.metrics
    assert logged(run.path) == logged(whole.path)
    table = run.metrics_table.read_text()
    assert table == whole.metrics_table.read_text()
    steps = [int(line.partition(",")[0]) for line in table.splitlines()[1:]]
    assert steps == sorted({*steps})


def copy_run(run: Run, to: Path) -> Run:
    """A copy of the run's folder, hard links kept."""
    subprocess.run(["cp", "-a", run.path, to], check=True)
    return Run(to)


class PowerCut(BaseException):
    """An exception that nothing in the package handles: what is not on disk is lost."""


class CrashAt(Callback):
    """Raise after a step, or in its middle."""

    def __init__(self, step: int, error: type[BaseException], *, in_the_middle: bool = False) -> None:
        self.step = step
        self.error = error
        self.in_the_middle = in_the_middle

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if not self.in_the_middle and trainer.global_step == self.step:
            raise self.error("crash")

    def on_before_optimizer_step(self, trainer: Trainer, *_: object) -> None:
        if self.in_the_middle and trainer.global_step == self.step - 1:
            raise self.error("crash")


@contextmanager
def crashing(step: int, error: type[BaseException], *, in_the_middle: bool = False) -> Iterator[None]:
    """Expect ``error`` from the block, in which every job raises it at ``step``, after all callbacks of ours."""
    make = AutoencoderJob._trainer

    def trainer(job: AutoencoderJob, callbacks: Sequence[Callback]) -> Trainer:
        made = make(job, callbacks)
        made.callbacks.append(CrashAt(step, error, in_the_middle=in_the_middle))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoencoderJob, "_trainer", trainer)
        with pytest.raises(error, match="crash"):
            yield


def assert_resumes_after_power_cut(whole: Run, step: int, *overrides: str) -> None:
    """Train a duplicate of ``whole`` with the same ``overrides``, cut it off after ``step``, and resume it."""
    folder = whole.path.with_name(f"after-{step}")
    with crashing(step, PowerCut):
        train_run(folder, *overrides)
    assert_same(train_run(folder, *overrides), whole)


def assert_resumes_after_kill(folder: Path, *overrides: str) -> None:
    """Train a run whole, and again with one SIGKILL once it has a checkpoint; each in a process of its own."""
    overrides = (*SHORT, WARMUP, "trainer.limit_train_batches=50", "checkpoint.every_n_minutes=0.001", *overrides)
    whole, half = Run(folder / "whole"), Run(folder / "half")
    process = start(half.path, *overrides)
    wait_until(half.last_checkpoint.exists)
    process.kill()
    process.join()
    assert half.read_state() == "interrupted"
    for run in (half, whole):
        start(run.path, *overrides).join()
    assert half.status.attempts == 2
    assert_same(half, whole)
