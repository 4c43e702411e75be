"""Jobs in a process of their own, one or several that train together, and the file that asks them to stop.

Whatever happens to a job, the other jobs and the sweep continue.
"""

import hashlib
import multiprocessing
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType, ModuleType
from typing import Any, NamedTuple, TextIO

from sparse_ae.atomic import write_atomically
from sparse_ae.packing.packable import Packable
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunBusyError
from sparse_ae.sweeps.server import CONTEXT, warm_up
from sparse_ae.training.stop import catch, leave_console, restore

_STARTING = threading.Lock()

_STOP_PREFIX = ".stop-"
_STALE_SECONDS = 7 * 24 * 3600
"""Age at which a request that was kept for jobs in a queue is removed."""
_POLL_SECONDS = 0.2
_TOO_LARGE = 75
"""Exit code of a process whose jobs do not fit into memory together, and may one by one."""
_GRACE_SECONDS = 60
"""Time that a job has to stop by itself before it is killed."""


class JobSpec(NamedTuple):
    """Everything that a process needs to execute one run."""

    kind: str
    """Path of the ``Job``, ``package.module:Name``."""
    config: dict[str, Any]
    """Composed config, without Hydra's node."""
    folder: Path
    """Folder of the run."""
    sources: dict[str, str]
    """Files of ``.hydra``, names to contents."""
    stop_file: Path | None = None
    """File whose existence asks the job to stop."""
    packable: Packable | None = None
    """Facts about a job that can train together with others."""

    @property
    def sweep(self) -> str | None:
        """Name of the sweep that the job belongs to."""
        return None if self.stop_file is None else self.stop_file.name.removeprefix(_STOP_PREFIX)

    @property
    def fails_fast(self) -> bool:
        """True if a failure of the job should stop the sweep."""
        return self.stop_file is not None and bool(self.config.get("fail_fast"))

    @property
    def is_to_stop(self) -> bool:
        """True if the sweep asks the job to stop, alone or with all others."""
        file = self.stop_file
        return file is not None and (file.exists() or _own_file(file, self.folder).exists())

    @property
    def why_to_stop(self) -> str:
        """Reason that this job alone is asked to stop; empty if it is not."""
        file = self.stop_file and _own_file(self.stop_file, self.folder)
        return file.read_text() if file and file.exists() else ""

    @property
    def has_failed(self) -> bool:
        """True if this sweep has tried the job, and it failed."""
        last = Run(self.folder).record.read_last()
        return self.sweep is not None and last.sweep == self.sweep and last.state == "failed"

    def build(self) -> Any:
        """The job, built and not yet started. Raises ``ConfigError`` for every mistake in its config."""
        return resolve_name(self.kind)(self.config, Run(self.folder))


def _own_file(stop_file: Path, folder: Path) -> Path:
    """File that asks only the job in ``folder`` to stop, of the sweep with a ``stop_file``."""
    return stop_file.with_name(f"{stop_file.name}.{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]}")


def run_isolated(
    specs: Sequence[JobSpec], gpu: str | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Execute ``specs`` in one process of their own, on one ``gpu`` if given, and wait for its end.

    Several train together; where memory does not suffice, first one half of them and then the other. Each run's
    ``status.json`` records how it ended, also if the process was killed. A run that another process has locked is
    skipped. The process is asked to stop, with checkpoints, when its sweep asks for that or when an exception ends the
    wait. With ``fail_fast``, a failure asks all jobs of the sweep to stop.

    The ``environment`` of the process is by default that of this one. What libraries read when they are imported, such
    as OMP_NUM_THREADS, stays as it was when the first job of this process began.
    """
    specs = [spec for spec in specs if not spec.is_to_stop]
    if not specs:
        return
    environment = dict(os.environ) if environment is None else environment
    warm_up()
    process = CONTEXT.Process(target=_work, args=(specs, gpu, environment), name=specs[0].folder.name)
    with _without_main_module():
        process.start()
    try:
        while process.exitcode is None and not all(spec.is_to_stop for spec in specs):
            process.join(_POLL_SECONDS)
    finally:
        _end(process)
    code = process.exitcode or 0
    if code == _TOO_LARGE and len(specs) > 1:
        for spec in specs:
            why = f"out of memory with {len(specs)} runs in one process"
            Run(spec.folder).mark_killed(spec.why_to_stop or why)
        middle = len(specs) // 2
        for half in (specs[:middle], specs[middle:]):
            run_isolated([spec for spec in half if not spec.has_failed], gpu, environment)
        return
    for spec in specs:
        if spec.stop_file is not None and spec.fails_fast and _has_failed(code) and not spec.why_to_stop:
            spec.stop_file.touch()
        run = Run(spec.folder)
        if code < 0:
            killed = code == -signal.SIGKILL
            run.mark_killed(f"killed by {signal.Signals(-code).name}{' (out of memory?)' if killed else ''}")
        else:  # asked before it could answer, or ended by itself
            run.mark_killed(spec.why_to_stop or f"its process ended with exit code {code}")


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Start processes that do not import the main module, as Python's own would.

    A job needs nothing of it, and a script that calls ``sparse_ae.sweep`` without asking for ``__name__`` would sweep
    again in each of its jobs.
    """
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _has_failed(code: int) -> bool:
    """True for the exit code of an error or a kill; False for one of a process that was asked to stop, 128 + signal."""
    return code < 0 or 0 < code < 128


def _end(process: Any) -> None:
    end = time.monotonic() + _GRACE_SECONDS
    while process.exitcode is None and time.monotonic() < end:
        process.terminate()  # more than once: it may not have been listening yet
        process.join(1)
    if process.exitcode is None:
        process.kill()
        process.join()


def _work(specs: Sequence[JobSpec], gpu: str | None, environment: Mapping[str, str]) -> None:
    """Entry point of a process. Redirects its output to the run's log: the console is the sweep's.

    Its ``environment`` takes the place of that of the server that it was forked from, which may be older.
    """
    os.environ.clear()
    os.environ.update(environment)
    os.setsid()  # Ctrl-C in a terminal reaches the sweep, which asks its jobs to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the sweep asks; others are for the sweep itself
    _stop_with_parent()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with open_log(specs[0]) as log:
        sys.stdout.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if len(specs) > 1:
        from sparse_ae.sweeps.together import PackTooLargeError, execute_together

        try:
            sys.exit(0 if execute_together(specs) else 1)
        except PackTooLargeError:
            sys.exit(_TOO_LARGE)
    from sparse_ae.jobs.execute import execute

    (spec,) = specs
    with suppress(RunBusyError):  # another process trains it
        job = spec.build()
        job.stop.ask_why = lambda: spec.why_to_stop
        execute(job, spec.sources, spec.sweep)


def open_log(spec: JobSpec) -> TextIO:
    """Open the log of a run, to append what it writes on the console."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    return Run(spec.folder).log.open("a", buffering=1)


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


class StopWaitingError(BaseException):
    """The sweep was asked to stop while it waited for jobs that may be in a queue."""


class StopFile:
    """Inside ``with``, a signal to stop creates a file that asks every job, wherever it runs, to do so.

    A Ctrl-C after that does not wait. Other signals come more than once: a lost connection is told by the terminal and
    by the shell.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / f"{_STOP_PREFIX}{secrets.token_hex(4)}"
        self.signal: int | None = None
        self.breaks_off = False
        """True while a signal should also raise ``StopWaitingError``."""
        self._keep = False

    @property
    def is_set(self) -> bool:
        """True once the jobs are asked to stop, by a signal or by a failure with ``fail_fast``."""
        return self.path.exists()

    def __enter__(self) -> "StopFile":
        self._before = catch(self._ask)
        for stale in self.path.parent.glob(f"{_STOP_PREFIX}*"):
            with suppress(FileNotFoundError):  # of a sweep that has just ended
                if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                    stale.unlink()
        return self

    def __exit__(self, *exception: object) -> None:
        restore(self._before)
        if not self._keep:
            for file in self.path.parent.glob(f"{self.path.name}*"):
                file.unlink(missing_ok=True)

    def ask(self, run: Run, why: str) -> None:
        """Ask the job of one ``run`` to stop; its status will say ``why``."""
        write_atomically(_own_file(self.path, run.path), why.encode())

    def take_back(self, run: Run) -> None:
        """Let the job of one ``run`` train that was asked to stop."""
        _own_file(self.path, run.path).unlink(missing_ok=True)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        leave_console(number)
        if self.signal is not None:
            if number == signal.SIGINT:
                self._keep = True  # for jobs that have not seen the file yet
                raise KeyboardInterrupt
            return
        self.signal = number
        self.path.touch()
        print("\nstopping: the jobs save what they have", file=sys.stderr, flush=True)
        if self.breaks_off:
            self._keep = True  # for jobs that have not begun
            raise StopWaitingError
