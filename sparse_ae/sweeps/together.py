"""Jobs that train together in one process, each a run as if it were alone."""

import logging
import signal
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any

from sparse_ae.jobs.execute import execute
from sparse_ae.packing.coroutine import Coroutine
from sparse_ae.packing.pack import Pack
from sparse_ae.run.errors import RunBusyError
from sparse_ae.sweeps.process import JobSpec, open_log
from sparse_ae.training.loop import TrainingLoop
from sparse_ae.training.process import tune_process
from sparse_ae.training.stop import Stopped, catch, leave_console, restore


def execute_together(specs: Sequence[JobSpec]) -> bool:
    """Execute the jobs of ``specs``. Returns True if none failed.

    Steps are taken together; everything else, one job after the other. A failure is its own run's. A signal to stop
    reaches all jobs, which save and stop after the present step.
    """
    first = specs[0].config
    tune_process(first["threads"], first["matmul_precision"])  # of this thread, which takes the steps
    logging.getLogger().setLevel(logging.INFO)  # each run would set it, and set it back before others have ended
    with ExitStack() as logs:
        members = [_Member(spec, len(specs), logs.enter_context(open_log(spec)).fileno()) for spec in specs]

        def stop(number: int, frame: FrameType | None) -> None:
            leave_console(number)
            for member in members:
                member.ask_to_stop(number)

        before = catch(stop)
        try:
            _train(members)
        finally:
            restore(before)
    return not any(member.has_failed for member in members)


def _train(members: Sequence["_Member"]) -> None:
    pack = Pack()
    for member in members:
        member.resume()
    while waiting := [member for member in members if member.loop is not None]:
        for member in waiting:
            if member.spec.is_to_stop:
                member.ask_to_stop(signal.SIGTERM)
        pack.take_steps([member.loop for member in waiting if member.loop is not None])
        for member in waiting:
            member.resume()


class _Member:
    """One of the jobs."""

    def __init__(self, spec: JobSpec, of: int, log: int) -> None:
        """One ``of`` so many, whose output goes to the file descriptor ``log``."""
        self.spec = spec
        self._of = of
        self.loop: TrainingLoop | None = None
        """Loop that waits for steps to be taken; None before training, after it, and between steps."""
        self.has_failed = False
        self._job: Any = None
        self._stopped_by: int | None = None
        self._coroutine = Coroutine(self._execute, log, name=spec.folder.name)

    def resume(self) -> None:
        """Let the job go on until it waits for steps, or to its end."""
        self.loop = None
        if self._stopped_by is None or self._job is not None:
            self._coroutine.resume()

    def ask_to_stop(self, number: int) -> None:
        """Tell the job, if it has begun, of a signal to stop."""
        self._stopped_by = self._stopped_by or number
        if self._job is not None:
            self._job.stop.requested = self._job.stop.requested or number

    def _execute(self) -> None:
        try:
            with suppress(RunBusyError, Stopped):  # another process trains it, or it has saved what it has
                job = self.spec.build()
                job.stop.ask_why = lambda: self.spec.why_to_stop
                job.run.record.packed = self._of
                loop = job.trainer.fit_loop.epoch_loop
                loop.take_steps = lambda: self._wait(loop)
                self._job = job
                execute(job, self.spec.sources, self.spec.sweep)
        except Exception:
            traceback.print_exc()
            self.has_failed = True
            if self.spec.fails_fast and self.spec.stop_file is not None:
                self.spec.stop_file.touch()

    def _wait(self, loop: TrainingLoop) -> None:
        self.loop = loop
        self._coroutine.pause()
