"""One command that makes runs: compose and check everything, then run the job, or with ``-m`` the sweep."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import hydra
from hydra.core.utils import run_job
from hydra.types import RunMode
from omegaconf import DictConfig

from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import compose, composing, conf_dir, hydra_context, sources, task_config
from sparse_ae.cli.errors import one_line_errors
from sparse_ae.cli.overrides import fixed
from sparse_ae.config.errors import ConfigError

_MULTIRUN = "hydra.mode=MULTIRUN"

_QUESTIONS = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}
"""Flags that Hydra answers without running anything."""
_DETAILS = {"--resolve", "-p", "--package"}
"""Flags that say how to answer ``--cfg``."""


def launch(name: str, job: str, sweep: str, ideas: Sequence[str]) -> None:
    """Run the command whose config is ``conf/<name>.yaml``. Every mistake shows before anything is written.

    ``job`` is the path of its ``Job``, ``package.module:Name``, and ``sweep`` that of the function that executes
    several. Both import torch, which a mistyped key need not wait for. ``ideas``, of what to run next, may name the
    ``{run}``.
    """
    program = f"sparse-ae-{name}"
    with one_line_errors(program):
        arguments, flags = _parser().parse_known_args()
        if flags:  # --help, --cfg and the like
            _answer(name, flags, arguments)
            return
        with composing():
            extra = _search_path(arguments.config_dir)
            overrides = [*arguments.overrides, *extra]
            if arguments.multirun:
                overrides.append(_MULTIRUN)
            config = compose(name, fixed(overrides) if _MULTIRUN in overrides else overrides)
            if config.hydra.mode == RunMode.MULTIRUN:
                resolve_name(sweep)(name, job, config, overrides)
            else:
                _run(program, job, config, ideas)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    return parser


def _search_path(config_dir: str | None) -> list[str]:
    """The override by which Hydra also looks for configs in a user's folder."""
    if config_dir is None:
        return []
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}", reason="no such folder")
    return [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]


def _answer(name: str, flags: Sequence[str], arguments: argparse.Namespace) -> None:
    """Let Hydra answer a question about the command and its config."""
    names = [flag.partition("=")[0] for flag in flags if flag.startswith("-")]
    allowed = _QUESTIONS | (_DETAILS if {"-c", "--cfg"} & set(names) else set())
    for flag in names:
        if flag not in allowed:
            expected = "key=value, group=option, -m, --config-dir DIR, --cfg job, --info, --help"
            raise ConfigError(flag, reason="not a flag of this command", expected=expected)
    if {"-c", "--cfg"} & set(names) and not arguments.multirun:
        with composing():  # says what is wrong with an override in one line
            compose(name, [text for text in arguments.overrides if "=" in text] + _search_path(arguments.config_dir))
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(lambda _: None)()
    except ValueError as error:  # flags that do not go together
        raise ConfigError(" ".join(flags), reason=str(error)) from error


def _run(program: str, kind: str, config: DictConfig, ideas: Sequence[str]) -> None:
    """Build the one job that ``config`` describes, and execute it unless it is done already."""
    # Only here, for all of it takes a while to import: --help and a mistyped key need not wait.
    from sparse_ae.jobs.execute import execute, is_settled, starting_point
    from sparse_ae.lock import lacks_locks
    from sparse_ae.reporting.console import print_run, tell, warn
    from sparse_ae.runs.directory import Run
    from sparse_ae.runs.errors import RunError
    from sparse_ae.training.stop import Stopped

    run = Run(Path(config.hydra.run.dir).absolute())  # the job may change its working directory
    job: Any = resolve_name(kind)(task_config(config), run)

    if job.is_main_process:
        run.raise_if_locked()
        if is_settled(run, job.config):
            status = run.status
            if status.state == "failed":
                reason = f"failed: {status.error}; rerun=none leaves it, without that it is resumed"
                raise RunError(str(run.shown_path), reason=reason)
            tell(f"{run.shown_path}: already finished; rerun=all retrains it")
            print_run(run, *ideas)
            return
        starting_point(job)
        job.inspect()
        make_writable(run.shown_path)
        if warning := lacks_locks(run.shown_path):
            warn(warning)

    failure: list[Exception] = []  # Hydra would add a line of its own to what it raises

    def task(_: DictConfig) -> None:
        try:
            if execute(job, sources(config)):
                print_run(run, *ideas)
        except Stopped as stopped:
            if job.is_main_process:
                command = f"the same command{' without rerun=all' if job.rerun == 'all' else ''}"
                print(f"{program}: stopped by {stopped.reason}; run {command} to resume", file=sys.stderr)
            raise
        except Exception as error:
            failure.append(error)

    run_job(task, config, "hydra.run.dir", None, hydra_context(config), configure_logging=False)
    if failure:
        raise failure[0]
