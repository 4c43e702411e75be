"""Execution of one run: lock it, resume or restart, fit, test, export, analyse, record the outcome."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparse_ae.analysis import Subject
from sparse_ae.analysis.loading import test_sample
from sparse_ae.analysis.write import write_analyses
from sparse_ae.atomic import link
from sparse_ae.config.build import selected
from sparse_ae.config.errors import describe
from sparse_ae.functional import block_rows
from sparse_ae.jobs.base import Job, StartingPoint, missing_analyses
from sparse_ae.packing import coroutine
from sparse_ae.reporting.console import tell, warn
from sparse_ae.reporting.pages import write_run_page
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import CheckpointError, RunError
from sparse_ae.run.export import load
from sparse_ae.run.naming import config_hash
from sparse_ae.training.out_of_memory import is_out_of_memory
from sparse_ae.training.stop import Stopped

log = logging.getLogger(__name__)

_TIMED_SAMPLES, _TIMED_SECONDS = 1000, 0.1


def execute(job: Job, sources: Mapping[str, str], sweep: str | None = None, at_step: int | None = None) -> bool:
    """Train, test, export and analyse one run; its ``status.json`` says how that ended. Returns True on rank 0.

    ``sources`` are the files of ``.hydra``; ``sweep`` names the sweep that the job belongs to; ``at_step`` is the
    latest step to resume from. A finished run only gets
    the analyses that it lacks; an interrupted or failed one is resumed from its last intact checkpoint. Raises
    ``RunBusyError`` if another process trains it, ``Stopped`` if asked to stop, and whatever training raises.
    """
    run = job.run
    with job.stop:
        if not job.is_main_process:  # rank 0 writes status and results
            job.fit_and_test(starting_point(job, sweep))
            return False
        with run.lock(), _logging_into(run.log):
            if is_settled(run, job.config, sweep):
                return True
            if not _starts_over(run, job.rerun, sweep) and run.read_state() == "finished":
                _analyse(job, missing_analyses(run, job.config))
            else:
                _train(job, sources, sweep, at_step)
            write_run_page(run)
    return True


def _train(job: Job, sources: Mapping[str, str], sweep: str | None, at_step: int | None) -> None:
    with _recording(job):
        start = starting_point(job, sweep, at_step)
        _begin(job, sources, start, sweep)
        _describe_data(job)
        job.fit_and_test(start)
        job.write_results()
        job.run.record.note_encoding(_seconds_per_sample(job))
        _analyse(job, selected(job.config, "analysis"))


@contextmanager
def _recording(job: Job) -> Iterator[None]:
    """Record in ``status.json`` how the block ended: finished, failed or interrupted."""
    record, config = job.run.record, job.config
    try:
        yield
    except Stopped as stopped:
        record.end("interrupted", config, stopped.reason)
        raise
    except Exception as error:
        lacks_memory = is_out_of_memory(error)
        if lacks_memory and record.packed > 1:  # alone it may fit
            raise
        log.exception("the run failed")
        if lacks_memory:
            told = MemoryError(f"out of memory ({describe(error)})")
            record.end("failed", config, str(told))
            raise told from error
        record.end("failed", config, describe(error))
        raise
    verdict = job.verdict()
    if verdict is not None and not verdict["met"]:
        warn(verdict["reason"])
    record.end("finished", config, target=verdict)


def is_settled(run: Run, config: Mapping[str, Any], sweep: str | None = None) -> bool:
    """True if there is nothing to do. Raises ``RunError`` if the folder holds another run."""
    if _starts_over(run, config["rerun"], sweep):  # first: a damaged status is no reason not to
        return False
    state = run.read_state()
    if state == "new":
        return False
    if run.status.config_hash != config_hash(config):
        reason = "holds another run; rerun=all replaces it, another hydra.run.dir leaves it"
        raise RunError(str(run.shown_path), reason=reason)
    if state == "finished":
        return not missing_analyses(run, config)
    return state == "failed" and config["rerun"] == "none"


def starting_point(job: Job, sweep: str | None = None, at_step: int | None = None) -> StartingPoint:
    """The run's own last checkpoint if it has begun, else that of another run that was asked for, if any.

    A last checkpoint that is damaged, or later than ``at_step``, is passed over for the one before it. Raises
    ``RunError`` if every checkpoint is damaged, or if the one that was asked for does not fit.
    """
    run = job.run
    own = [path for path in (run.last_checkpoint, run.previous_checkpoint) if path.exists()]
    if not own or _starts_over(run, job.rerun, sweep) or run.read_state() == "new":
        return StartingPoint(job.resume_from(), None)
    passed_over = []
    for path in own:
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            passed_over.append(str(error))
            continue
        if at_step is not None and checkpoint["global_step"] > at_step and path != own[-1]:
            passed_over.append(f"{path.name} is later than those of the runs that train with this one")
            continue
        return StartingPoint(path, checkpoint["logged"], *passed_over)
    raise RunError("", reason=f"{'; '.join(passed_over)}; rerun=all starts over")


def _starts_over(run: Run, rerun: str, sweep: str | None) -> bool:
    """True if what an earlier attempt left is to be replaced: with ``rerun=all``, unless this very sweep made it."""
    return rerun == "all" and (sweep is None or run.record.read_last().sweep != sweep)


def _begin(job: Job, sources: Mapping[str, str], start: StartingPoint, sweep: str | None) -> None:
    """Mark the run as running, and put its checkpoints back to ``start``."""
    run, threads = job.run, torch.get_num_threads()
    resumed, repeats = start.logged is not None, start.damaged is not None
    if start.damaged:
        warn(f"{start.damaged}; the checkpoint before it is used")
    if resumed:
        before = run.status
        tell(f"{run.shown_path}: resuming from {start.path and start.path.name} ({before.progress:.0%} done)")
        if before.threads != threads:
            warn(f"threads={threads}: it had {before.threads} before; the last digits of its results may change")
    run.start(config=job.config, resumed=resumed, sources=sources, threads=threads, sweep=sweep, repeats=repeats)
    if start.damaged:  # or the next checkpoint would keep the damaged one as the one before
        link(run.previous_checkpoint, run.last_checkpoint)


def _describe_data(job: Job) -> None:
    if line := job.data.describe():
        tell(line)
    for doubt in job.data.doubts:
        warn(doubt)


def _analyse(job: Job, analyses: Mapping[str, Any]) -> None:
    """Analyse the exported model on the test split."""
    job.data.prepare_data()
    coder = load(job.run)
    sample = test_sample(coder, job.data, "cpu", job.active_threshold)
    if analyses and sample.left_out:
        tell(sample.left_out)
    write_analyses(job.run, Subject(coder, sample, job.run), analyses)


def _seconds_per_sample(job: Job) -> float:
    """Mean time to encode one sample with the exported coder, in one batch of test samples, on the job's device.

    The batch is smaller for very wide codes.
    """
    from torch.utils.benchmark import Timer

    coder = load(job.run).to(job.device)
    samples = block_rows(coder.latent_dim, _TIMED_SAMPLES)
    x = coder.scale.inverse(job.data.first("test", samples).to(job.device))
    with torch.inference_mode():
        timer = Timer("coder.encode(x)", globals={"coder": coder, "x": x}, num_threads=torch.get_num_threads())
        seconds = timer.timeit(1).mean
        if seconds < _TIMED_SECONDS:
            seconds = timer.timeit(round(_TIMED_SECONDS / seconds)).mean
        return float(seconds) / len(x)


@contextmanager
def _logging_into(path: Path) -> Iterator[None]:
    """Send Python's logging to ``path``, from INFO on; the console belongs to progress and results.

    Of several runs in one process, each has a thread of its own, whose records are in no other run's file.
    """
    handler = logging.FileHandler(path, delay=True)
    own = threading.get_ident()
    handler.addFilter(lambda record: record.thread == own or record.thread not in coroutine.THREADS)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    root = logging.getLogger()
    level, root.level = root.level, min(root.level, logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.level = level
        handler.close()
