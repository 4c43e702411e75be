"""Real kills and signals: processes of their own, stopped at a moment that nobody chose, resumed by the next."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.process import JobSpec
from tests.events import logged
from tests.helpers import plain_config
from tests.processes import command, start, start_together, wait_until
from tests.scenarios.crashes import SHORT, WARMUP, assert_resumes_after_kill, assert_same

ON_DISK = ("data=arrays", "data.path={}/x.npy", "data.storage=disk", "data.window_gb=1e-4")


def _pack(folder: Path, *overrides: str) -> list[JobSpec]:
    """Three runs of one program: two see the same batches, and one others."""
    own = {"a": ["sparsity.coefficient=0.1"], "b": ["optimizer.lr=2e-3"], "c": ["seed=5"]}
    kind = f"{AutoencoderJob.__module__}:{AutoencoderJob.__name__}"
    return [JobSpec(kind, plain_config(*overrides, *each), folder / name, {}) for name, each in own.items()]


@pytest.mark.slow
def test_packs_resume_after_ten_kills(tmp_path: Path) -> None:
    """Real SIGKILLs of a process that trains three runs, also while it saves one checkpoint after the other."""
    overrides = [
        *SHORT,
        WARMUP,
        "trainer.max_epochs=6",
        "trainer.limit_train_batches=30",
        "checkpoint.every_n_minutes=0.001",
    ]
    whole, half = (_pack(tmp_path / name, *overrides) for name in ("whole", "half"))
    process = start_together(whole)
    process.join()
    runs = [Run(spec.folder) for spec in half]
    seconds = sum(Run(spec.folder).status.wall_seconds for spec in whole)
    moments = random.Random(1)
    for _ in range(10):
        attempts = runs[-1].status.attempts
        process = start_together(half)
        wait_until(lambda: runs[-1].status.attempts > attempts or process.exitcode is not None)  # noqa: B023
        process.join(moments.uniform(0, seconds / 5))
        process.kill()
        process.join()
    start_together(half).join()
    assert max(run.status.attempts for run in runs) > 5
    for run, spec in zip(runs, whole, strict=True):
        assert run.status.packed == 3
        assert_same(run, Run(spec.folder))


@pytest.mark.parametrize("data", [(), pytest.param(ON_DISK, marks=pytest.mark.slow)], ids=["memory", "disk"])
def test_resume_after_kill(data: tuple[str, ...], tmp_path: Path) -> None:
    """One SIGKILL, once a checkpoint is there; on disk, an epoch takes eight windows."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32))
    assert_resumes_after_kill(tmp_path, *(option.format(tmp_path) for option in data))


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


STOPPED = [*SHORT, "trainer.max_epochs=2", "trainer.limit_train_batches=200", "trainer.log_every_n_steps=1"]
SLURM = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "mine"}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Run:
    """A run that no signal reached."""
    run = Run(tmp_path_factory.mktemp("whole"))
    start(run.path, *STOPPED).join()
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "variables"),
    [(signal.SIGUSR1, SLURM), (signal.SIGTERM, {}), (signal.SIGINT, {}), (signal.SIGHUP, {})],
    ids=["SIGUSR1 in Slurm", "SIGTERM", "Ctrl-C", "SIGHUP"],
)
def test_signal_stops_after_step(
    tmp_path: Path, never_stopped: Run, number: signal.Signals, variables: dict[str, str]
) -> None:
    overrides = [*STOPPED, "checkpoint.every_n_minutes=0.001"]
    run = Run(tmp_path / "run")
    process = start(run.path, *overrides, variables=variables)
    wait_until(run.last_checkpoint.exists)
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == 128 + number
    assert run.read_state() == "interrupted"
    assert run.status.error == ("Ctrl-C" if number == signal.SIGINT else number.name)
    step = read_checkpoint(run.last_checkpoint)["global_step"]
    assert step < 200, "it stopped only at the end of an epoch"
    assert max(record[1] for record in logged(run.path)) == step  # and no step was made after it
    start(run.path, *overrides, variables=variables).join()
    assert_same(run, never_stopped)
    assert not list(run.path.rglob("hpc*"))


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
@pytest.mark.parametrize("sweep", [[], ["-m", "hydra.launcher.n_jobs=2"]], ids=["run", "sweep"])
def test_lost_terminal(tmp_path: Path, sweep: list[str]) -> None:
    """SIGHUP comes from the system, and whatever is printed after it is an error."""
    often = ["threads=1", "checkpoint.every_n_minutes=0.01", "analysis=[]"]
    terminal, end = os.openpty()
    line = [sys.executable, "-m", "sparse_ae.commands.train", *sweep, *often, "seed=1,2" if sweep else "seed=1"]
    process = subprocess.Popen(["setsid", "--ctty", *line], cwd=tmp_path, stdin=end, stdout=end, stderr=end)
    os.close(end)
    outputs = tmp_path / "outputs" / "default"
    wait_until(lambda: len(list(outputs.glob("*/checkpoints/last.ckpt"))) == 1 + bool(sweep))
    os.close(terminal)
    assert process.wait(timeout=300) == 128 + signal.SIGHUP
    runs = [Run(path.parent) for path in outputs.glob("*/status.json")]
    reasons = {(run.read_state(), run.status.error) for run in runs}
    assert reasons == {("interrupted", "SIGTERM" if sweep else "SIGHUP")}
    assert not list(outputs.glob(".stop-*"))


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
