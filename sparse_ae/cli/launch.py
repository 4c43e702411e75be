"""One command that makes runs: compose and check everything, then run the job, or with ``-m`` the sweep."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

from hydra.core.utils import env_override
from hydra.types import RunMode
from omegaconf import DictConfig

from sparse_ae.cli.compose import compose, composing
from sparse_ae.cli.errors import one_line_errors
from sparse_ae.cli.overrides import fixed, for_shell, of_data, read, written
from sparse_ae.cli.questions import Parser, add_overrides, add_questions, answer
from sparse_ae.config.errors import ConfigError

_MULTIRUN = "hydra.mode=MULTIRUN"


def launch(name: str, description: str, job: str, sweep: str, ideas: Sequence[str]) -> None:
    """Run the command whose config is ``conf/<name>.yaml``. Every mistake shows before anything is written.

    ``job`` is the path of its ``Job``, ``package.module:Name``, and ``sweep`` that of the function that executes
    several. Importing the one and calling the other imports torch, which a mistyped key need not wait for. ``ideas``,
    of what to run next, may name the ``{run}``, and what chose its data, ``{same_data}``.
    """
    program = f"sparse-ae-{name}"
    with one_line_errors(program):
        parser = _parser(program, description)
        arguments = _arguments(parser)
        overrides = [*read(arguments.overrides), *_search_path(arguments.config_dir)]
        if answer(parser, name, arguments, overrides):
            return
        with composing():
            if arguments.multirun or _MULTIRUN in overrides:
                overrides.append(_MULTIRUN)
                config = compose(name, fixed(overrides))
            else:
                config = compose(name, overrides)
            if config.hydra.mode == RunMode.MULTIRUN:
                with env_override(dict(config.hydra.job.env_set)):  # also of jobs in processes of their own
                    outcome = resolve_name(sweep)(name, job, config, overrides)
                if outcome.exit_code:
                    raise SystemExit(outcome.exit_code)
            else:
                _run(program, job, config, overrides, ideas)


def _parser(program: str, description: str) -> Parser:
    parser = Parser(program, description)
    add_overrides(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep over every combination of values a,b,c")
    parser.add_argument(
        "-cd", "--config-dir", metavar="DIR", help="folder of further configs, as DIR/GROUP/OPTION.yaml"
    )
    add_questions(parser)
    return parser


def _arguments(parser: Parser) -> argparse.Namespace:
    arguments, unknown = parser.parse_known_intermixed_args()
    if unknown:
        expected = "key=value, group=option, -m, --config-dir DIR, --cfg job, --info, --help"
        raise ConfigError(unknown[0].partition("=")[0], reason="not a flag of this command", expected=expected)
    return arguments


def _search_path(config_dir: str | None) -> list[str]:
    """The override by which Hydra also looks for configs in a user's folder."""
    if config_dir is None:
        return []
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}", reason="no such folder")
    return written({"hydra.searchpath": [f"file://{Path(config_dir).absolute()}"]})


def _run(program: str, kind: str, config: DictConfig, overrides: Sequence[str], ideas: Sequence[str]) -> None:
    """Build the one job that ``config`` describes, and execute it unless it is done already."""
    # Only here, for all of it takes a while to import: --help and a mistyped key need not wait.
    from sparse_ae.cli.single import SingleRun
    from sparse_ae.reporting.console import print_run, tell
    from sparse_ae.training.stop import Stopped

    single = SingleRun(kind, config)
    job, run = single.job, single.run
    same_data = "".join(f" {shlex.quote(text)}" for text in of_data(overrides))
    ideas = [idea.format(run=for_shell("run", run.shown_path), same_data=same_data) for idea in ideas]
    if single.is_done():
        tell(f"{run.shown_path}: already finished; rerun=all retrains it")
        print_run(run, *ideas)
        return
    try:
        ended = single.execute()
    except Stopped as stopped:
        if job.is_main_process:
            command = f"the same command{' without rerun=all' if job.rerun == 'all' else ''}"
            print(f"{program}: stopped by {stopped.reason}; run {command} to resume", file=sys.stderr)
        raise
    if ended:
        print_run(run, *ideas)
