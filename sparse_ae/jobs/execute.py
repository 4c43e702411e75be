"""One run from its lock to its last status: go on or start over, fit, test, export, analyse."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse_ae.atomic import link
from sparse_ae.config.build import build
from sparse_ae.jobs import Experiment, StartingPoint, analyses_of, assemble
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError
from sparse_ae.runs.naming import config_hash

log = logging.getLogger(__name__)

_TIMED_IMAGES, _TIMED_REPEATS, _TIMED_SECONDS = 1000, 5, 2.0


def train(config: Mapping[str, Any], run: Run, sources: Mapping[str, str], sweep: str | None = None) -> bool:
    """Train, test, export and analyse one run; its ``status.json`` says how that ended. Returns whether it was this
    one of several processes that kept the books.

    ``sources`` are the files of ``.hydra``; ``sweep`` names the sweep that it is a job of. A finished run is left as it
    is, but for analyses that it lacks; one that was interrupted or failed goes on from its last intact checkpoint.
    Raises ``RunBusyError`` if another process is at it, ``Stopped`` if asked to stop, and whatever training raises.
    """
    from sparse_ae.reporting.pages import write_run_page
    from sparse_ae.training.stop import Stopped, StopSignals

    with StopSignals() as stop:
        experiment = assemble(config, run, stop)
        rerun = experiment.rerun
        if not experiment.is_main_process:  # one more process of a distributed run: the first keeps the books
            experiment.fit_and_test(starting_point(experiment, run, sweep))
            return False
        with run.lock(), _log_into(run.log):
            if is_settled(run, config, rerun, sweep):
                return True
            if not starts_over(run, rerun, sweep) and run.state == "finished":
                _analyse(experiment, run, missing_analyses(run, config))
                write_run_page(run)
                return True
            try:
                start = starting_point(experiment, run, sweep)
                _begin(run, config, sources, start, sweep)
                experiment.fit_and_test(start)
                experiment.write_results(run)
                run.note_encoding(_seconds_per_image(experiment, run))
                _analyse(experiment, run, analyses_of(config))
            except Stopped as stopped:
                run.end("interrupted", config, stopped.reason)
                raise
            except Exception as error:
                from sparse_ae.cli.compose import describe

                log.exception("the run failed")
                run.end("failed", config, describe(error))
                raise
            verdict = experiment.verdict()
            if verdict is not None and not verdict["met"]:
                _tell(f"warning: {verdict['reason']}")
            run.end("finished", config, target=verdict)
            write_run_page(run)
    return True


def starts_over(run: Run, rerun: str, sweep: str | None) -> bool:
    """Whether what an earlier attempt left is replaced: with ``rerun=all``, unless this very sweep made it."""
    return rerun == "all" and (sweep is None or run.sweep != sweep)


def is_settled(run: Run, config: Mapping[str, Any], rerun: str, sweep: str | None = None) -> bool:
    """Whether there is nothing to do. Raises ``RunError`` rather than overwrite another run."""
    if starts_over(run, rerun, sweep) or run.state == "new":
        return False
    state = run.state
    if run.status.get("config_hash") != config_hash(config):
        raise RunError(f"{run.path}: holds another run (allowed: another hydra.run.dir, or rerun=all to replace it)")
    if state == "finished":
        return not missing_analyses(run, config)
    return state == "failed" and rerun == "none"


def missing_analyses(run: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the analyses asked for that the run has no result of."""
    return {name: spec for name, spec in analyses_of(config).items() if not run.has_analysis(name)}


def check_analyses(run: Run, config: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for options that an analysis still to be made does not have, values of the wrong type or
    range, and runs it is to compare with that are not there: now, and not when the run is trained.
    """
    for name, spec in missing_analyses(run, config).items():
        build(spec, f"analysis.{name}")


def starting_point(experiment: Experiment, run: Run, sweep: str | None = None) -> StartingPoint:
    """The run's own last checkpoint if it has begun, else the one of another run that was asked for, if any.

    A damaged last checkpoint is passed over for the one before it, with a warning. Raises ``RunError`` if there are
    only damaged ones, or if the one that was asked for does not fit.
    """
    from sparse_ae.runs.checkpoint import read_checkpoint
    from sparse_ae.runs.errors import CheckpointError

    own = [path for path in (run.last_checkpoint, run.previous_checkpoint) if path.exists()]
    if own and not starts_over(run, experiment.rerun, sweep) and run.state != "new":
        damaged = []
        for path in own:
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            return StartingPoint(path, checkpoint["event_sizes"], *damaged)
        raise RunError(f"{'; '.join(damaged)} (allowed: rerun=all to start over)")
    return StartingPoint(experiment.resume_from(), None)


def _begin(
    run: Run, config: Mapping[str, Any], sources: Mapping[str, str], start: StartingPoint, sweep: str | None
) -> None:
    import torch

    goes_on = start.event_sizes is not None
    if start.damaged:
        _tell(f"{start.damaged}; the checkpoint before it is used")
    threads = torch.get_num_threads()
    if goes_on:
        done = run.status.get("progress", 0.0)
        _tell(f"{run.shown_path}: goes on from {start.path and start.path.name} ({done:.0%} done)")
        before = run.status.get("threads")
        if before != threads:
            _tell(f"threads={threads}: it had {before} before, which may change the last digits of its results")
    repeats = bool(start.damaged)
    run.start(config=config, resumed=goes_on, sources=sources, threads=threads, sweep=sweep, repeats=repeats)
    if start.event_sizes is not None:
        run.rewind_events(start.event_sizes)
    if start.damaged:  # or the next checkpoint would keep the damaged one as the one before
        link(run.previous_checkpoint, run.last_checkpoint)


def _tell(line: str) -> None:
    print(line, flush=True)
    log.warning(line)


def _analyse(experiment: Experiment, run: Run, analyses: Mapping[str, Any]) -> None:
    """Analyse the exported model on the test split."""
    from sparse_ae.analysis import Subject
    from sparse_ae.analysis.loading import test_sample
    from sparse_ae.analysis.write import write_analyses
    from sparse_ae.runs.export import load

    data = experiment.data
    data.prepare_data()
    sample = test_sample(data, "cpu", experiment.active_threshold)
    write_analyses(run, Subject(load(run), sample, run), analyses)


def _seconds_per_image(experiment: Experiment, run: Run) -> float:
    """How long the exported coder takes to encode an image, in one batch of test images on the experiment's device."""
    import torch

    from sparse_ae.data import to_unit_interval
    from sparse_ae.runs.export import load
    from sparse_ae.timing import median_seconds

    coder = load(run).to(experiment.device)
    x = to_unit_interval(experiment.data.split("test").x[:_TIMED_IMAGES]).to(experiment.device)
    with torch.inference_mode():
        return median_seconds(lambda: coder.encode(x), _TIMED_REPEATS, enough=_TIMED_SECONDS) / len(x)


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """What Python's logging says, from INFO on, goes to ``path``; the console belongs to progress and summary."""
    handler = logging.FileHandler(path, delay=True)
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
