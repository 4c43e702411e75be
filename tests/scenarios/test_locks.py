"""Whole commands where the file system has no locks, or may only be read."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_ae.lock import Holder
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.console import Watch
from tests.helpers import SMALL as OF_FINISHED_RUN
from tests.helpers import Cli
from tests.processes import command, start, wait_until, without_locks
from tests.scenarios.crashes import SHORT
from tests.scenarios.sweeps import LONG, SMALL, Sweep, runs, training

WARNING = "warning: {}: this file system has no locks ({}); a file beside each run names the process"


def test_resume_after_kill(tmp_path: Path, cli: Cli) -> None:
    """One SIGKILL where nothing releases a lock."""
    overrides = [*SHORT, "trainer.limit_train_batches=50", "checkpoint.every_n_minutes=0.001"]
    run = Run(tmp_path / "run")
    process = start(run.path, *overrides, lockless=errno.ENOSYS)
    wait_until(run.last_checkpoint.exists)
    os.kill(process.pid or 0, signal.SIGSTOP)
    with without_locks(errno.ENOSYS):
        assert run.read_state() == "running"
        outcome = cli("sparse-ae-train", *overrides, "hydra.run.dir=run")
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith(f"sparse-ae-train: error: run: is being trained by process {process.pid} on ")
        process.kill()
        process.join()
        assert run.read_state() == "interrupted"
        outcome = cli("sparse-ae-train", *overrides, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert WARNING.format("run", "Function not implemented") in outcome.out
    assert "resuming from last.ckpt" in outcome.out
    assert (run.read_state(), run.status.attempts) == ("finished", 2)


@pytest.mark.slow
def test_a_sweep_waits_for_another_machine_and_ends(
    tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes over a run whose machine has died."""
    record = tmp_path / "sweep" / "run" / ".lock.holder"
    record.parent.mkdir(parents=True)
    record.write_text(Holder(host="elsewhere", pid=1, started=0, token="").model_dump_json())
    say_once = Watch.say_once

    def say_and_die(watch: Watch, line: str) -> None:
        say_once(watch, line)
        os.utime(record, (0, 0))

    monkeypatch.setattr(Watch, "say_once", say_and_die)
    with without_locks(errno.ENOLCK):
        out = sweep(*SMALL, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=run")
    assert WARNING.format("sweep", "No locks available") in out
    assert "waiting for 1 that another process has locked" in out
    assert "1 of 1 runs are finished" in out
    assert not record.exists()


@pytest.mark.slow
def test_a_killed_sweep_resumes(tmp_path: Path) -> None:
    """Every process of it without locks, and killed."""
    code = errno.ENOLCK
    fault = tmp_path / "fault"
    fault.mkdir()
    (fault / "sitecustomize.py").write_text(
        "import fcntl, os\n"
        "def flock(file, operation):\n"
        f"    raise OSError({code}, os.strerror({code}))\n"
        "fcntl.flock = flock\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(fault), os.environ.get("PYTHONPATH", "")])}
    arguments = ["-m", *LONG, "seed=1,2"]
    sweep = command(tmp_path, *arguments, env=env)
    wait_until(lambda: len(training(tmp_path)) == 2)
    pids = [run.status.pid or 0 for run in runs(tmp_path).values()]
    with without_locks(code):
        assert [run.read_state() for run in runs(tmp_path).values()] == ["running"] * 2
    os.killpg(sweep.pid, signal.SIGKILL)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    sweep.communicate()
    with without_locks(code):
        wait_until(lambda: [run.read_state() for run in runs(tmp_path).values()] == ["interrupted"] * 2)
    again = command(tmp_path, *arguments, env=env)
    out, err = again.communicate(timeout=300)
    assert (again.returncode, err) == (0, "")
    assert WARNING.format("outputs/default", os.strerror(code)) in out
    assert "2 of 2 runs are finished" in out
    assert [run.status.attempts for run in runs(tmp_path).values()] == [2, 2]


def test_a_finished_run_that_may_only_be_read(cli: Cli, run_copy: Path, read_only: Callable[[Path], Path]) -> None:
    folder = read_only(run_copy)
    outcome = cli("sparse-ae-train", "sparsity=l1", *OF_FINISHED_RUN, f"hydra.run.dir={folder}")
    assert (outcome.code, outcome.err) == (0, "")
    assert "already finished" in outcome.out
