"""One command that makes runs: check, then let Hydra run the job, or with ``-m`` the sweep."""

import argparse
import sys
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import compose, hydra_app, one_line_errors, program_of, sources, task_config
from sparse_ae.cli.overrides import without_sweeps
from sparse_ae.jobs import assemble
from sparse_ae.jobs.execute import check_analyses, is_settled, starting_point, train
from sparse_ae.reporting.console import print_run
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError
from sparse_ae.training.stop import Stopped


def launch(config_name: str, ideas: Sequence[str]) -> None:
    """Run the command whose config is ``conf/<config_name>.yaml``: check everything before anything is written, then
    hand over to Hydra. ``ideas``, of what to run next, may name the ``{run}``.
    """
    program = program_of(config_name)

    def task(config: DictConfig) -> None:
        with one_line_errors(program):
            run = Run(HydraConfig.get().runtime.output_dir)
            try:
                keeps_books = train(task_config(config), run, sources(config))
            except Stopped as stopped:
                command = f"the same command{' without rerun=all' if config.rerun == 'all' else ''}"
                print(f"{program}: stopped by {stopped.reason}; {command} goes on", file=sys.stderr)
                raise
            if keeps_books:
                print_run(run, *ideas)

    with one_line_errors(program):
        arguments = get_args_parser().parse_args()
        if _only_asks(arguments) or not _is_done(config_name, arguments, ideas):
            hydra_app(config_name, task)


def _only_asks(arguments: argparse.Namespace) -> bool:
    a = arguments
    return bool(a.help or a.hydra_help or a.cfg or a.info or a.shell_completion)


def _is_done(config_name: str, arguments: argparse.Namespace, ideas: Sequence[str]) -> bool:
    """Build what the config describes and throw it away, so that a mistake shows before any data is read or any folder
    made. Returns whether the run is done already. A sweep checks its own jobs.
    """
    overrides = without_sweeps(arguments.overrides) if arguments.multirun else arguments.overrides
    config = compose(config_name, overrides, arguments.config_dir)
    if arguments.multirun or config.hydra.mode == RunMode.MULTIRUN:
        return False
    plain = task_config(config)
    experiment = assemble(plain, Run(""))
    if not experiment.is_main_process:  # the first process has checked
        return False
    HydraConfig.instance().set_config(config)  # what ${hydra:...} in a folder's name refers to
    run = Run(config.hydra.run.dir)
    if run.is_locked:
        with run.lock():  # says who has it
            pass
    if is_settled(run, plain, experiment.rerun):
        if run.state == "failed":
            raise RunError(f"{run.path}: failed: {run.status.get('error')} (rerun=none; without that, it goes on)")
        print(f"{run.path}: finished already; rerun=all makes it again")
        print_run(run, *ideas)
        return True
    check_analyses(run, plain)
    starting_point(experiment, run)
    make_writable(run.path)
    return False
