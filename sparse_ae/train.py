"""Train one sparse autoencoder, or with ``-m`` a sweep of them: ``sparse-ae-train [overrides] [-m]``."""

import argparse
import sys

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sparse_ae.cli import compose, hydra_app, one_line_errors, sources, task_config
from sparse_ae.experiment import assemble
from sparse_ae.files import make_writable
from sparse_ae.job import is_settled, starting_point, train
from sparse_ae.runs import Run, RunError
from sparse_ae.summary import print_run
from sparse_ae.sweep.grid import without_sweeps
from sparse_ae.training.stop import Stopped

PROGRAM = "sparse-ae-train"


def main() -> None:
    """Check everything before anything is written, then let Hydra run the job or the sweep."""
    with one_line_errors(PROGRAM):
        arguments = get_args_parser().parse_args()
        if _only_asks(arguments) or not _is_done(arguments):
            hydra_app("train", _task)


def _only_asks(arguments: argparse.Namespace) -> bool:
    a = arguments
    return bool(a.help or a.hydra_help or a.cfg or a.info or a.shell_completion)


def _is_done(arguments: argparse.Namespace) -> bool:
    """Build what the config describes and throw it away, so that a mistake shows before any data is read or any folder
    made. Returns whether the run is done already. A sweep checks its own jobs.
    """
    overrides = without_sweeps(arguments.overrides) if arguments.multirun else arguments.overrides
    config = compose("train", overrides, arguments.config_dir)
    if arguments.multirun or config.hydra.mode == RunMode.MULTIRUN:
        return False
    plain = task_config(config)
    experiment = assemble(plain, Run(""))
    if not experiment.trainer.is_global_zero:  # the first process has checked
        return False
    HydraConfig.instance().set_config(config)  # what ${hydra:...} in a folder's name refers to
    run = Run(config.hydra.run.dir)
    if run.is_locked:
        with run.lock():  # says who has it
            pass
    if is_settled(run, plain, experiment.settings.rerun):
        if run.state == "failed":
            raise RunError(f"{run.path}: failed: {run.status.get('error')} (rerun=none; without that, it goes on)")
        print(f"{run.path}: finished already; rerun=all trains it again")
        print_run(run)
        return True
    starting_point(plain, run, experiment.settings)
    make_writable(run.path)
    return False


def _task(config: DictConfig) -> None:
    with one_line_errors(PROGRAM):
        run = Run(HydraConfig.get().runtime.output_dir)
        try:
            train(task_config(config), run, sources(config))
        except Stopped as stopped:
            command = f"the same command{' without rerun=all' if config.rerun == 'all' else ''}"
            print(f"{PROGRAM}: stopped by {stopped.reason}; {command} goes on", file=sys.stderr)
            raise
        print_run(run)


if __name__ == "__main__":
    main()
