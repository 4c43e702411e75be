"""One table and one page of many runs: ``sparse-ae-report DIR [DIR ...] [--into DIR]``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sparse_ae.cli.errors import one_line_errors
from sparse_ae.config.errors import ConfigError

PROGRAM = "sparse-ae-report"


def main() -> None:
    """Report as the command line says."""
    arguments = _parser().parse_args()
    with one_line_errors(PROGRAM):
        into = _target(arguments.folders, arguments.into)
        from sparse_ae.reporting.write import write_report

        write_report(arguments.folders, into)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Compare runs: summary.csv, report.html and report/*.png. A sweep may still be going on.",
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="folder of runs, such as outputs/default")
    parser.add_argument("--into", type=Path, metavar="DIR", help="where to write; default: the one DIR given")
    return parser


def _target(folders: Sequence[Path], into: Path | None) -> Path:
    """Where the report goes."""
    if not folders:
        raise ConfigError("DIR: is required (allowed: folders of runs, such as outputs/default)")
    if into is not None:
        return into
    if len(folders) > 1:
        raise ConfigError("--into: is required with several folders (allowed: --into DIR, where to write the report)")
    if (folders[0] / "status.json").is_file():
        raise ConfigError(f"{folders[0]}: is a run itself (allowed: the folder it is in, or --into DIR)")
    return folders[0]


if __name__ == "__main__":
    main()
