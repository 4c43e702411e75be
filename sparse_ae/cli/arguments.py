"""Command line of a command that only reads runs: ``key=value``, ``--help`` and ``--version``."""

from pathlib import Path

from sparse_ae.cli.overrides import for_shell, literal, read
from sparse_ae.cli.questions import Parser, add_overrides, answer
from sparse_ae.config.errors import ConfigError


def read_overrides(program: str, description: str, config_name: str) -> list[str]:
    """The overrides that were typed, ``run=`` with its value as it is: such a command has no sweeps.

    Answers ``--help`` with every key and its default, and ends. Raises ``ConfigError`` for a folder without ``run=``.
    """
    parser = Parser(program, description)
    add_overrides(parser)
    arguments = parser.parse_intermixed_args()
    overrides = read(literal(text) if text.startswith("run=") else text for text in arguments.overrides)
    if answer(parser, config_name, arguments, overrides):
        raise SystemExit(0)
    for text in arguments.overrides:
        if Path(text).is_dir():
            raise ConfigError(text, reason="a folder without its key", expected=for_shell("run", text))
    return overrides
