"""Jobs that train together in one process, each a run as if it were alone."""

import logging
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from sparse_ae.training.out_of_memory import is_out_of_memory
from sparse_ae.training.process import keep_freed_memory, tune_process
from sparse_ae.training.stop import Stopped, catch, leave_console, restore

log = logging.getLogger(__name__)


class PackTooLargeError(Exception):
    """There is not enough memory for a step of all jobs together."""


def execute_together(specs: Sequence[JobSpec]) -> bool:
    """Execute the jobs of ``specs``. Returns True if none failed.

    Steps are taken together; everything else, one job after the other. A failure is its own run's. A signal to stop
    reaches all jobs, which save and stop after the present step. Raises ``PackTooLargeError`` where memory does not
    suffice; the process should end then, and the jobs resume from their last checkpoints.
    """
    first = specs[0].config
    tune_process(first["threads"], first["matmul_precision"])  # of this thread, which takes the steps
    keep_freed_memory()
    logging.getLogger().setLevel(logging.INFO)  # each run would set it, and set it back before others have ended
    with ExitStack() as stack:
        members = [_Member(spec, len(specs), stack.enter_context(open_log(spec)).fileno()) for spec in specs]

        def stop(number: int, frame: FrameType | None) -> None:
            leave_console(number)
            for member in members:
                member.ask_to_stop(number)

        stack.callback(restore, catch(stop))
        step = _common_step([member.run for member in members])
        for member in members:
            member.at_step = step
        _train(members)
    return not any(member.has_failed for member in members)


def _common_step(runs: Sequence[Run]) -> int | None:
    """Latest step of which every run that is not trained has a checkpoint; None if there is no such step.

    A pack that was killed while it saved has runs whose last checkpoint is later than that of others.
    """
    steps = [set(_steps(run)) for run in runs if run.record.read_last().fit_seconds is None and not run.is_locked]
    return max(set.intersection(*steps), default=None) if steps else None


def _steps(run: Run) -> Iterator[int]:
    for path in (run.last_checkpoint, run.previous_checkpoint):
        with suppress(CheckpointError):
            yield read_checkpoint(path)["global_step"]


def _train(members: Sequence["_Member"]) -> None:
    pack = Pack()
    for member in members:
        member.resume()
    while waiting := {member.loop: member for member in members if member.loop is not None}:
        for member in waiting.values():
            if member.spec.is_to_stop:
                member.ask_to_stop(signal.SIGTERM)
        with _told_too_large(len(members)):
            groups = pack.groups(list(waiting))
        for group in groups:
            if len(group) > 1:
                _take_steps(pack, [waiting[loop] for loop in group], group)
        if any(loop.checkpoint.is_due for loop in waiting):
            for loop in waiting:  # so that all can resume from one step
                loop.checkpoint.save_soon()
        for member in waiting.values():
            member.resume()


def _take_steps(pack: Pack, members: Sequence["_Member"], loops: Sequence[TrainingLoop]) -> None:
    """Take steps of ``members``; each gets an exception that is its own, or of all, and its share of the time."""
    before = time.monotonic()
    try:
        with _told_too_large(len(loops)):
            errors = pack.take_steps(loops)
    except PackTooLargeError:
        raise
    except Exception as error:
        errors = dict.fromkeys(loops, error)
    for member, loop in zip(members, loops, strict=True):
        member.seconds += (time.monotonic() - before) / len(members)
        member.has_stepped = True
        member.error = errors.get(loop)


@contextmanager
def _told_too_large(jobs: int) -> Iterator[None]:
    """Raise ``PackTooLargeError`` where memory does not suffice for the block, of so many jobs."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            log.warning(f"out of memory with {jobs} runs in one process; they are divided in two")
            raise PackTooLargeError from error
        raise


class _Member:
    """One of the jobs."""

    def __init__(self, spec: JobSpec, of: int, log: int) -> None:
        """One ``of`` so many, whose output goes to the file descriptor ``log``."""
        self.spec = spec
        self.run = Run(spec.folder)
        self.at_step: int | None = None
        """Step to resume from."""
        self.loop: TrainingLoop | None = None
        """Loop that waits for steps to be taken; None before training, after it, and between steps."""
        self.has_stepped = False
        """True once steps of the waiting loop were taken; it takes its own otherwise."""
        self.error: Exception | None = None
        """Exception of these steps."""
        self.seconds = 0.0
        """Time spent on this job, before its present turn."""
        self.has_failed = False
        self._of = of
        self._job: Any = None
        self._stopped_by: int | None = None
        self._lacked_memory: Exception | None = None
        self._turn_began: float | None = None
        self._coroutine = Coroutine(self._execute, log, name=spec.folder.name)

    def resume(self) -> None:
        """Let the job go on until it waits for steps, or to its end."""
        self.loop = None
        if self._stopped_by is not None and self._job is None:
            return
        self._turn_began = time.monotonic()
        self._coroutine.resume()
        self.seconds = self._clock()
        self._turn_began = None
        if self._lacked_memory is not None:
            with _told_too_large(self._of):
                raise self._lacked_memory

    def ask_to_stop(self, number: int) -> None:
        """Tell the job, if it has begun, of a signal to stop."""
        self._stopped_by = self._stopped_by or number
        if self._job is not None:
            self._job.stop.requested = self._job.stop.requested or number

    def _clock(self) -> float:
        return self.seconds + (0.0 if self._turn_began is None else time.monotonic() - self._turn_began)

    def _execute(self) -> None:
        try:
            with suppress(RunBusyError, Stopped):  # another process trains it, or it has saved what it has
                job = self.spec.build()
                job.stop.ask_why = lambda: self.spec.why_to_stop
                job.run.record.packed, job.run.record.clock = self._of, self._clock
                loop = job.trainer.fit_loop.epoch_loop
                loop.take_steps = lambda: self._wait(loop)
                self._job = job
                if self._stopped_by is None:  # while it was built
                    execute(job, self.spec.sources, self.spec.sweep, self.at_step)
        except Exception as error:
            if is_out_of_memory(error):  # which is the pack's
                self._lacked_memory = error
                return
            traceback.print_exc()
            self.has_failed = True
            if self.spec.fails_fast and self.spec.stop_file is not None:
                self.spec.stop_file.touch()

    def _wait(self, loop: TrainingLoop) -> None:
        self.loop, self.has_stepped, self.error = loop, False, None
        self._coroutine.pause()
        if self.error is not None:
            raise self.error
        if not self.has_stepped:
            loop.take_steps_alone()
