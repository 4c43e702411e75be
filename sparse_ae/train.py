"""Train one sparse autoencoder, or with ``-m`` a sweep of them: ``sparse-ae-train [overrides] [-m]``."""

import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sparse_ae.cli import compose, describe, hydra_app, one_line_errors, sweep_jobs, task_config
from sparse_ae.experiment import Experiment, Settings, assemble
from sparse_ae.runs import Run, RunError, config_hash, make_writable

PROGRAM = "sparse-ae-train"

_TERMINATED, _CTRL_C = 128 + signal.SIGTERM, 128 + signal.SIGINT  # exit codes by the shell's convention

log = logging.getLogger(__name__)


def main() -> None:
    """Check everything before anything is written, then let Hydra run the job or the sweep."""
    with one_line_errors(PROGRAM):
        arguments = get_args_parser().parse_args()
        asks_only = (
            arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
        )
        if not asks_only and _is_settled(arguments.overrides, arguments.config_dir, multirun=arguments.multirun):
            return
    _failures.clear()
    hydra_app("train", _task)
    for failure in _failures:
        print(f"{PROGRAM}: error: {failure}", file=sys.stderr)
    if _failures:
        raise SystemExit(1)


def _is_settled(overrides: list[str], config_dir: str | None, *, multirun: bool) -> bool:
    """Build what every job's config describes and throw it away, so that a mistake shows before any data is read or
    any folder made. Returns whether a single run is done already.
    """
    for job in sweep_jobs(overrides) if multirun else [overrides]:
        config = compose("train", job, config_dir)
        plain = task_config(config)
        experiment = assemble(plain, Run(""))
    HydraConfig.instance().set_config(config)  # what ${hydra:...} in a folder's name refers to
    if multirun:
        make_writable(Path(config.hydra.sweep.dir))
        return False
    run = Run(config.hydra.run.dir)
    if _is_done(run, plain, experiment.settings):
        if run.status["state"] == "finished":
            _print_summary(run, plain)
        return True
    _resume_from(plain, run, experiment.settings)
    make_writable(run.path)
    return False


_failures: list[str] = []
"""What went wrong in this process's jobs of a multirun."""


def _task(config: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    run = Run(hydra_config.runtime.output_dir)
    if hydra_config.mode != RunMode.MULTIRUN:
        with one_line_errors(PROGRAM):
            train(task_config(config), run)
        return
    try:
        train(task_config(config), run)
    except Exception as error:  # the others go on
        _failures.append(f"{run.path.name}: {describe(error)}")


def train(config: Mapping[str, Any], run: Run) -> None:
    """Train, test, export and analyse one run; its ``status.json`` says how that ended."""
    experiment = assemble(config, run)
    if not experiment.trainer.is_global_zero:  # one more process of a distributed run: the first keeps the books
        _fit_and_test(experiment, _resume_from(config, run, experiment.settings))
        return
    if _is_done(run, config, experiment.settings):
        return
    checkpoint = _resume_from(config, run, experiment.settings)
    signal.signal(signal.SIGTERM, _stop)
    run.start(config=config, resumed=checkpoint is not None)
    try:
        _fit_and_test(experiment, checkpoint)
        _write_results(experiment, config, run)
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the first into the second
        by_signal = isinstance(stop, SystemExit) and stop.code == _TERMINATED
        run.end("interrupted", "SIGTERM" if by_signal else "Ctrl-C")
        raise SystemExit(_TERMINATED if by_signal else _CTRL_C) from None
    except Exception as error:
        log.exception("the run failed")
        run.end("failed", describe(error))
        raise
    run.end("finished")
    _print_summary(run, config)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)


def _resume_from(config: Mapping[str, Any], run: Run, settings: Settings) -> Path | None:
    """The checkpoint to go on from, if any, after a look into it."""
    from sparse_ae.training.checkpoints import check_fits, read_checkpoint

    if settings.resume is False:
        return None
    path = run.last_checkpoint if settings.resume is True else Path(settings.resume)
    check_fits(path, read_checkpoint(path), config)
    return path


def _is_done(run: Run, config: Mapping[str, Any], settings: Settings) -> bool:
    """Whether there is nothing to do, and if so say it. Raises ``RunError`` rather than lose what is there."""
    status = run.status
    if not status or settings.rerun == "all":
        return False
    state = status["state"]
    if status["config_hash"] != config_hash(config):
        raise RunError(f"{run.path}: holds another run (allowed: another hydra.run.dir, or rerun=all to replace it)")
    if state == "finished" or (state == "failed" and settings.rerun == "none"):
        print(f"{run.path}: {state} already; rerun=all trains it again")
        return True
    if state != "failed" and run.last_checkpoint.exists() and settings.resume is False:
        what = "was interrupted" if state == "interrupted" else "is running or was killed"
        raise RunError(f"{run.path}: {what} (allowed: resume=true to go on, rerun=all to start over)")
    return False


def _fit_and_test(experiment: Experiment, checkpoint: Path | None) -> None:
    from sparse_ae.training.logger import RunLogger

    _, data, module, trainer = experiment
    logger, validates = trainer.logger, trainer.limit_val_batches != 0
    if isinstance(logger, RunLogger):
        logger.begin(module.hparams["config"], module.metric_names(validates=validates))
    if not validates and trainer.is_global_zero:
        print(f"data.val_size={data.val_size}: no validation metrics and no best.ckpt")
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if validates and module.evaluated_at.get("val") != trainer.global_step:  # stopped between two validations
        trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    if isinstance(logger, RunLogger):
        logger.finish()


def _write_results(experiment: Experiment, config: Mapping[str, Any], run: Run) -> None:
    """Metrics, the exported model and the analyses."""
    from sparse_ae.analysis import Sample
    from sparse_ae.analysis.write import write_analyses
    from sparse_ae.data import to_unit_interval
    from sparse_ae.export import save_model

    settings, data, module, _ = experiment
    run.add_metrics(module.latest | module.results)
    model = module.model.cpu().float().eval()
    save_model(run, model, network=config["model"], sparsity=config["sparsity"], input_shape=data.input_shape)
    x, label = data.split("test")
    sample = Sample(to_unit_interval(x), label, data.input_shape, settings.active_threshold)
    write_analyses(run, model, sample, config["analysis"])


def _print_summary(run: Run, config: Mapping[str, Any]) -> None:
    from sparse_ae.summary import console, print_metrics

    status = run.status
    title = f"{run.path.name}: {status['wall_seconds']:.0f} s"
    print_metrics(run.metrics, "test", title=title, units=config["model"]["latent_dim"])
    path = run.shown_path
    figures = [str(figure.relative_to(run.path)) for figure in run.figures]
    out = console()
    out.print(f"run:      {path}")
    if figures:
        out.print(f"figures:  {', '.join(figures)}")
    out.print(f"watch:    tensorboard --logdir {path.parent}")
    out.print("next:     sparse-ae-train sparsity=l1                        another penalty")
    out.print("          sparse-ae-train -m sparsity.coefficient=0.001,0.1   a sweep")
    out.print(f"          sparse-ae-analyse run={path} active_threshold=0.2")


if __name__ == "__main__":
    main()
