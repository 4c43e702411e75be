"""Questions that a command answers without a run: ``--help``, ``--version``, ``--cfg``, ``--info``, completion."""

import argparse
import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import NoReturn

import hydra
from omegaconf import OmegaConf

from sparse_ae import __version__
from sparse_ae.cli.compose import compose, composing, task_config, without_hydra
from sparse_ae.cli.options import groups, options
from sparse_ae.config.errors import ConfigError
from sparse_ae.config.groups import conf_dir

_QUESTIONS = ("help", "version", "cfg", "info", "shell_completion")
_SWEEPS = ("train", "fit")
"""Commands that sweep, with a launcher."""
_COMPLETION = re.compile(r"(install|uninstall|query)=(bash|zsh|fish)")
_ABOUT = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class Parser(argparse.ArgumentParser):
    """Parser of a command's flags, whose mistakes are lines like any other's.

    ``--help`` and ``--version`` are for the command to answer.
    """

    def __init__(self, program: str, description: str) -> None:
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this text")
        self.add_argument("--version", action="store_true", help="show the version")

    def print_version(self) -> None:
        """Print program and version."""
        print(f"{self.prog} {__version__}")

    def error(self, message: str) -> NoReturn:
        """Raise ``ConfigError``."""
        raise ConfigError("", reason=message)


def add_overrides(parser: Parser) -> None:
    """Add the overrides of a command with a config."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of keys, and options of groups")


def add_questions(parser: Parser) -> None:
    """Add the flags that show how the config of a run is composed."""
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help="show the config that is composed")
    parser.add_argument("-p", "--package", metavar="KEY", help="show only this part of the config")
    parser.add_argument("--resolve", action="store_true", help="show interpolations resolved")
    about = ", ".join(_ABOUT)
    parser.add_argument("-i", "--info", nargs="?", const="all", choices=_ABOUT, metavar="ABOUT", help=about)
    parser.add_argument(
        "-sc", "--shell-completion", action="store_true", help="with install=SHELL: show the script to evaluate"
    )


def answer(parser: Parser, name: str, arguments: argparse.Namespace, overrides: Sequence[str]) -> bool:
    """Answer the question about the command ``name`` and ``overrides`` that the flags ask; False if they ask none."""
    given = vars(arguments)
    asked = [question for question in _QUESTIONS if given.get(question)]
    for detail in ("package", "resolve"):
        if given.get(detail) and asked != ["cfg"]:
            raise ConfigError(f"--{detail}", reason="belongs to --cfg")
    if asked and (asked[1:] or given.get("multirun")):
        flag = f"--{asked[-1].replace('_', '-')}"
        raise ConfigError(flag, reason="cannot be combined with -m or with another question")
    if "help" in asked:
        parser.epilog = _describe(name, overrides)
        parser.print_help()
    elif "version" in asked:
        parser.print_version()
    elif "shell_completion" in asked:
        _complete(name, overrides)
    elif asked:
        with composing():  # says what is wrong with an override in one line
            config = compose(name, overrides)
            task_config(config)
            if arguments.package not in (None, "_global_") and OmegaConf.select(config, arguments.package) is None:
                raise ConfigError("--package", arguments.package, "no such key, or one without a value")
        details = ["--package", arguments.package] if arguments.package else []
        details += ["--resolve"] if arguments.resolve else []
        _ask_hydra(name, f"--{asked[0]}", given[asked[0]], *details, *overrides)
    return bool(asked)


def _describe(name: str, overrides: Sequence[str]) -> str:
    """The groups of a command with their options, and its keys with their values under ``overrides``."""
    with composing():
        config = compose(name, overrides)
        names = [*groups(config), *(["hydra/launcher"] if name in _SWEEPS else [])]
        offered = {group: ", ".join(options(group, overrides)) for group in names}
    width = max(map(len, offered))
    lines = [f"  {group:<{width}}  {of_group}" for group, of_group in offered.items()]
    keys = OmegaConf.to_yaml(without_hydra(config))
    return "\n".join(["groups and their options, as group=option:", *lines, "", "keys and their values:", "", keys])


def _complete(name: str, arguments: Sequence[str]) -> None:
    """Print the script that a shell is to evaluate, or for that script the words that may follow."""
    if len(arguments) != 1 or not _COMPLETION.fullmatch(arguments[0]):
        expected = "install=SHELL or uninstall=SHELL of bash, zsh or fish"
        raise ConfigError("--shell-completion", " ".join(arguments), "not a way to complete", expected)
    printed = io.StringIO()
    with redirect_stdout(printed):
        _ask_hydra(name, "--shell-completion", *arguments)
    text = printed.getvalue()
    if arguments[0].startswith("query"):
        with composing():
            offered = groups(compose(name, []))
            text = "".join(word for word in re.split(r"(\s+)", text) if _is_offered(word, offered))
    print(text, end="")


def _is_offered(word: str, offered: Sequence[str]) -> bool:
    """False for a group or an option that does not work in the command, whose groups are ``offered``."""
    group, _, option = word.lstrip("+~").partition("=")
    names = options(group)
    return not names or ((group in offered or group.startswith("hydra/")) and option in ("", *names))


def _ask_hydra(name: str, *arguments: str) -> None:
    sys.argv[1:] = arguments
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(lambda _: None)()
