"""One job in a process of its own: whatever happens to it, the other jobs and the sweep continue."""

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

from sparse_ae.config.build import locate
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunBusyError

# Forked from a server that has imported everything and computed nothing, a job starts at once and has no threads,
# no CUDA context and no memory of another's. Elsewhere forking is not safe.
_FORKS = sys.platform == "linux"
_CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")

STOP_PREFIX = ".stop-"
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60
"""Time that a job has to stop by itself before it is killed."""


class JobSpec(NamedTuple):
    """Everything that a process needs to execute one run."""

    kind: str
    """Dotted path of the ``Job``."""
    config: dict[str, Any]
    """Composed config, without Hydra's node."""
    folder: Path
    """Folder of the run."""
    sources: dict[str, str]
    """Files of ``.hydra``, names to contents."""
    stop_file: Path | None = None
    """File whose existence asks the job to stop."""

    @property
    def sweep(self) -> str | None:
        """Name of the sweep that the job belongs to."""
        return None if self.stop_file is None else self.stop_file.name.removeprefix(STOP_PREFIX)

    @property
    def is_to_stop(self) -> bool:
        """True if the sweep asks the job to stop."""
        return self.stop_file is not None and self.stop_file.exists()

    def build(self) -> Any:
        """The job, built and not yet started. Raises ``ConfigError`` for every mistake in its config."""
        return locate(self.kind, "job")(self.config, Run(self.folder))


def warm_up() -> None:
    """Start the server that jobs are forked from, so that it imports torch while others do something else."""
    if _FORKS:
        from multiprocessing import forkserver

        _CONTEXT.set_forkserver_preload(["sparse_ae.sweep.forkserver"])
        forkserver.ensure_running()


def run_isolated(spec: JobSpec, gpu: str | None = None) -> None:
    """Execute ``spec`` in a process of its own, on one ``gpu`` if given, and wait for its end.

    The run's ``status.json`` records how it ended, also if the process was killed. A run that another process has
    locked is skipped. The process is asked to stop, with a checkpoint, when its sweep asks for that or when an
    exception ends the wait.
    """
    if spec.is_to_stop:
        return
    warm_up()
    process = _CONTEXT.Process(target=_work, args=(spec, gpu), name=spec.folder.name)
    process.start()
    try:
        while process.exitcode is None and not spec.is_to_stop:
            process.join(_POLL_SECONDS)
    finally:
        _end(process)
    code = process.exitcode or 0
    run = Run(spec.folder)
    if code < 0:
        killed = code == -signal.SIGKILL
        run.mark_killed(f"killed by {signal.Signals(-code).name}{' (out of memory?)' if killed else ''}")
    else:
        run.mark_killed(f"its process ended with exit code {code}")


def _end(process: Any) -> None:
    end = time.monotonic() + _GRACE_SECONDS
    while process.exitcode is None and time.monotonic() < end:
        process.terminate()  # more than once: it may not have been listening yet
        process.join(1)
    if process.exitcode is None:
        process.kill()
        process.join()


def _work(spec: JobSpec, gpu: str | None) -> None:
    """Entry point of a job's process. Redirects its output to the run's log: the console is the sweep's."""
    os.setsid()  # Ctrl-C in a terminal reaches the sweep, which asks its jobs to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the server ignores it and a scheduler's own
    _stop_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ.pop("SLURM_NTASKS", None)  # or Lightning would wait for other ranks, or queue the job again by itself
    from sparse_ae.jobs.execute import execute

    spec.folder.mkdir(parents=True, exist_ok=True)
    with Run(spec.folder).log.open("a", buffering=1) as log:
        sys.stdout.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    with suppress(RunBusyError):  # another process trains it
        execute(spec.build(), spec.sources, spec.sweep)


def _stop_with_parent() -> None:
    """Stop, with a checkpoint, when the sweep's process ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
