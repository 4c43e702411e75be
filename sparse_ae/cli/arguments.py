"""Command line of a command that only reads runs: ``key=value`` and ``--help``."""

import argparse

from omegaconf import OmegaConf

from sparse_ae.cli.compose import compose, composing, without_hydra


def read_overrides(program: str, description: str, config_name: str) -> list[str]:
    """The overrides that were typed. Answers ``--help`` with every key and its default."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    if arguments.help:
        with composing():
            parser.epilog = f"keys and their defaults:\n\n{OmegaConf.to_yaml(without_hydra(compose(config_name, [])))}"
        parser.print_help()
        raise SystemExit(0)
    return list(arguments.overrides)
