"""One run from its lock to its last status: go on or start over, fit, test, export, analyse."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparse_ae.experiment import Experiment, Settings, assemble, sparsity_spec
from sparse_ae.files import link
from sparse_ae.identity import config_hash
from sparse_ae.runs import Run, RunError

if TYPE_CHECKING:
    from sparse_ae.training.stop import StopSignals

log = logging.getLogger(__name__)


class StartingPoint(NamedTuple):
    """Where training begins."""

    path: Path | None
    """A checkpoint; None for freshly initialised weights."""
    event_sizes: dict[str, int] | None
    """If the checkpoint is the run's own: how long its event files were then."""
    damaged: str | None = None
    """What is wrong with the newer checkpoint that was passed over, if one was."""


def train(config: Mapping[str, Any], run: Run, sources: Mapping[str, str], sweep: str | None = None) -> None:
    """Train, test, export and analyse one run; its ``status.json`` says how that ended.

    ``sources`` are the files of ``.hydra``; ``sweep`` names the sweep that it is a job of. A finished run is left as it
    is, but for analyses that it lacks; one that was interrupted or failed goes on from its last intact checkpoint.
    Raises ``RunBusyError`` if another process is at it, ``Stopped`` if asked to stop, and whatever training raises.
    """
    from sparse_ae.reporting.run_page import write_run_page
    from sparse_ae.training.stop import Stopped, StopSignals

    with StopSignals() as stop:
        experiment = assemble(config, run, stop)
        settings = experiment.settings
        if not experiment.trainer.is_global_zero:  # one more process of a distributed run: the first keeps the books
            _fit_and_test(experiment, starting_point(config, run, settings, sweep), stop)
            return
        with run.lock(), _log_into(run.log):
            if is_settled(run, config, settings.rerun, sweep):
                return
            if not starts_over(run, settings.rerun, sweep) and run.state == "finished":
                _analyse(experiment, config, run, missing_analyses(run, config))
                write_run_page(run)
                return
            try:
                start = starting_point(config, run, settings, sweep)
                _begin(run, config, sources, start, sweep)
                _fit_and_test(experiment, start, stop)
                _write_results(experiment, config, run)
            except Stopped as stopped:
                run.end("interrupted", config, stopped.reason)
                raise
            except Exception as error:
                from sparse_ae.cli import describe

                log.exception("the run failed")
                run.end("failed", config, describe(error))
                raise
            run.end("finished", config, target=_verdict(experiment))
            write_run_page(run)


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
    return {name: spec for name, spec in config["analysis"].items() if not run.has_analysis(name)}


def starting_point(config: Mapping[str, Any], run: Run, settings: Settings, sweep: str | None = None) -> StartingPoint:
    """The run's own last checkpoint if it has begun, else the one that ``resume`` names, if any.

    A damaged last checkpoint is passed over for the one before it, with a warning. Raises ``RunError`` if there are
    only damaged ones, or if the one named by ``resume`` does not fit ``config``.
    """
    from sparse_ae.checkpoint_file import CheckpointError, read_checkpoint
    from sparse_ae.training.checkpoints import check_fits
    from sparse_ae.training.resume import event_sizes

    own = [path for path in (run.last_checkpoint, run.previous_checkpoint) if path.exists()]
    if own and not starts_over(run, settings.rerun, sweep) and run.state != "new":
        damaged = []
        for path in own:
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            return StartingPoint(path, event_sizes(checkpoint), *damaged)
        raise RunError(f"{'; '.join(damaged)} (allowed: rerun=all to start over)")
    if settings.resume is None:
        return StartingPoint(None, None)
    path = Path(settings.resume)
    try:
        check_fits(path, read_checkpoint(path), config)
    except CheckpointError as error:
        raise RunError(f"resume={error}") from error
    return StartingPoint(path, None)


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
    run.start(config=config, resumed=goes_on, sources=sources, threads=threads, sweep=sweep)
    if start.event_sizes is not None:
        run.rewind_events(start.event_sizes)
    if start.damaged:  # or the next checkpoint would keep the damaged one as the one before
        link(run.previous_checkpoint, run.last_checkpoint)


def _tell(line: str) -> None:
    print(line, flush=True)
    log.warning(line)


def _fit_and_test(experiment: Experiment, start: StartingPoint, stop: "StopSignals") -> None:
    from sparse_ae.training.logger import RunLogger

    _, data, module, trainer = experiment
    logger, validates = trainer.logger, trainer.limit_val_batches != 0
    if isinstance(logger, RunLogger) and start.event_sizes is None:
        logger.begin(module.hparams["config"], module.metric_names(validates=validates))
    if not validates and trainer.is_global_zero:
        print(f"data.val_size={data.val_size}: no validation metrics and no best.ckpt")
    trainer.fit(module, datamodule=data, ckpt_path=start.path, weights_only=True)
    stop.resume()
    if validates and module.evaluated_at.get("val") != trainer.global_step:  # stopped between two validations
        trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    if isinstance(logger, RunLogger):
        logger.finish()


def _write_results(experiment: Experiment, config: Mapping[str, Any], run: Run) -> None:
    """Metrics, the exported model and the analyses."""
    from sparse_ae.export import save_model

    _, data, module, _ = experiment
    run.add_metrics(module.latest | module.results)
    model = module.model.cpu().float().eval()
    save_model(run, model, network=config["model"], sparsity=sparsity_spec(config), input_shape=data.input_shape)
    _write_path(experiment, config, run)
    _analyse(experiment, config, run, config["analysis"])


def _write_path(experiment: Experiment, config: Mapping[str, Any], run: Run) -> None:
    """The front that a run has passed along, if its target was to record one."""
    from sparse_ae.reporting.path import path_figures

    target = experiment.module.objective.target
    if target is not None and target.points:
        method = config["sparsity"]["_target_"].rpartition(".")[2]
        run.write_analysis("coefficient_path", {"points": target.points}, path_figures(target.points, method))


def _verdict(experiment: Experiment) -> dict[str, Any] | None:
    """Whether the run has the sparsity that was asked for, also told on the console if it has not."""
    objective, results = experiment.module.objective, experiment.module.results
    verdict = None if objective.target is None else objective.target.verdict(results)
    if verdict is None:
        return None
    if not verdict.met:
        _tell(f"warning: {verdict.reason}")
    return verdict._asdict()


def _analyse(experiment: Experiment, config: Mapping[str, Any], run: Run, analyses: Mapping[str, Any]) -> None:
    """Analyse the exported model on the test split."""
    from sparse_ae.analysis import Subject
    from sparse_ae.analysis.write import write_analyses
    from sparse_ae.export import load
    from sparse_ae.stored import test_sample

    settings, data, _, _ = experiment
    data.prepare_data()
    sample = test_sample(data, "cpu", settings.active_threshold)
    write_analyses(run, Subject(load(run), sample, run), analyses)


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
