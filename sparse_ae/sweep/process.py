"""One job in a process of its own: whatever becomes of it, the others and the sweep go on."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunBusyError

# Forked from a server that has imported everything and computed nothing, a job starts at once and has no threads,
# no CUDA context and no memory of another's. Elsewhere forking is not safe.
_FORKS = sys.platform == "linux"
_CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
_PRELOAD = ["sparse_ae.sweep.forkserver", "sparse_ae.sweep.preload"]

STOP_PREFIX = ".stop-"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60
"""A job that is asked to stop and does not is killed after so long."""


class Job(NamedTuple):
    """What a process needs to train one run."""

    config: dict[str, Any]
    folder: Path
    sources: dict[str, str]
    """The files of ``.hydra``."""
    stop_file: Path | None
    """Where this exists, its sweep asks the job to stop."""

    @property
    def sweep(self) -> str | None:
        """Its sweep's name."""
        return None if self.stop_file is None else self.stop_file.name.removeprefix(STOP_PREFIX)

    @property
    def is_to_stop(self) -> bool:
        """Whether its sweep asks it to."""
        return self.stop_file is not None and self.stop_file.exists()


def warm_up() -> None:
    """Start the server that jobs are forked from, which then imports torch while others do something else."""
    if _FORKS:
        from multiprocessing import forkserver

        _CONTEXT.set_forkserver_preload(_PRELOAD)
        forkserver.ensure_running()


def run_isolated(job: Job, gpu: str | None = None) -> None:
    """Train ``job`` in a process of its own, on one ``gpu`` if given, and wait for its end. How it ended is in its
    ``status.json``, also if the process was killed. A run that another process is training is left to that.

    The process is asked to stop, with a checkpoint, when its sweep asks for that or an exception ends the wait.
    """
    run = Run(job.folder)
    if job.is_to_stop:
        return
    warm_up()
    process = _CONTEXT.Process(target=_work, args=(job, gpu), name=job.folder.name)
    process.start()
    try:
        while process.exitcode is None and not job.is_to_stop:
            process.join(_POLL_SECONDS)
    finally:
        _end(process)
    code = process.exitcode or 0
    if code < 0:
        killed = code == -signal.SIGKILL
        run.mark_dead(f"killed by {signal.Signals(-code).name}{' (out of memory?)' if killed else ''}")
    else:
        run.mark_dead(f"its process ended with exit code {code}")


def _end(process: Any) -> None:
    end = time.monotonic() + _GRACE_SECONDS
    while process.exitcode is None and time.monotonic() < end:
        process.terminate()  # more than once: it may not have been listening yet
        process.join(1)
    if process.exitcode is None:
        process.kill()
        process.join()


def _work(job: Job, gpu: str | None) -> None:
    """The life of a job's process. Its output goes to the run's log: the console is the sweep's."""
    os.setsid()  # Ctrl-C in a terminal reaches the sweep, which asks its jobs to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the server ignores it and a scheduler's own
    _die_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ.pop("SLURM_NTASKS", None)  # or Lightning would wait for other ranks, or queue the job again by itself
    from sparse_ae.jobs.execute import train

    run = Run(job.folder)
    run.path.mkdir(parents=True, exist_ok=True)
    with run.log.open("a", buffering=1) as log:
        sys.stdout.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    with suppress(RunBusyError):  # then it is another's
        train(job.config, run, job.sources, job.sweep)


def _die_with_parent() -> None:
    """Stop, with a checkpoint, when the sweep dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
