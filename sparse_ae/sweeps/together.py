"""Jobs that train together in one process, each a run as if it were alone."""

import logging
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any

from sparse_ae.jobs.execute import execute
from sparse_ae.packing.coroutine import Coroutine
from sparse_ae.packing.pack import Pack
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import CheckpointError, RunBusyError
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
        step = _common_step(specs)
        members = [_Member(spec, len(specs), step, logs.enter_context(open_log(spec)).fileno()) for spec in specs]

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


def _common_step(specs: Sequence[JobSpec]) -> int | None:
    """Latest step of which every run that is not trained has a checkpoint; None if there is no such step.

    A pack that was killed while it saved has runs whose last checkpoint is later than that of others.
    """
    steps = []
    for run in (Run(spec.folder) for spec in specs):
        if run.record.read_last().fit_seconds is None:
            steps.append(set(_steps(run)))
    return max(set.intersection(*steps), default=None) if steps else None


def _steps(run: Run) -> Iterator[int]:
    for path in (run.last_checkpoint, run.previous_checkpoint):
        with suppress(CheckpointError):
            yield read_checkpoint(path)["global_step"]


def _train(members: Sequence["_Member"]) -> None:
    pack = Pack()
    for member in members:
        member.resume()
    while waiting := [member for member in members if member.loop is not None]:
        for member in waiting:
            if member.spec.is_to_stop:
                member.ask_to_stop(signal.SIGTERM)
        loops = [member.loop for member in waiting if member.loop is not None]
        pack.take_steps(loops)
        if any(loop.checkpoint.is_due for loop in loops):
            for loop in loops:  # so that all can resume from one step
                loop.checkpoint.save_soon()
        for member in waiting:
            member.resume()


class _Member:
    """One of the jobs."""

    def __init__(self, spec: JobSpec, of: int, at_step: int | None, log: int) -> None:
        """One ``of`` so many, resumed ``at_step``, whose output goes to the file descriptor ``log``."""
        self.spec = spec
        self._of = of
        self._at_step = at_step
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
                execute(job, self.spec.sources, self.spec.sweep, self._at_step)
        except Exception:
            traceback.print_exc()
            self.has_failed = True
            if self.spec.fails_fast and self.spec.stop_file is not None:
                self.spec.stop_file.touch()

    def _wait(self, loop: TrainingLoop) -> None:
        self.loop = loop
        self._coroutine.pause()
