"""Report on many runs in one table and one page: ``sparse-ae-report DIR [DIR ...] [--into DIR]``."""

from collections.abc import Sequence
from pathlib import Path

from sparse_ae.atomic import make_writable, write_atomically
from sparse_ae.cli.errors import one_line_errors
from sparse_ae.cli.questions import Parser
from sparse_ae.config.errors import ConfigError

PROGRAM = "sparse-ae-report"


def main() -> None:
    """Write and print the report that the command line asks for."""
    with one_line_errors(PROGRAM):
        parser = _parser()
        arguments = parser.parse_args()
        if arguments.help:
            parser.print_help()
        elif arguments.version:
            parser.print_version()
        else:
            report(arguments.folders, _target(arguments.folders, arguments.into))


def report(folders: Sequence[Path], into: Path) -> None:
    """Write ``summary.csv``, ``report.html`` and ``report/*.png`` into ``into``, and print the table of runs.

    Each file is replaced as a whole, so that several reports may be written at once, also of a sweep that is running.
    Raises ``RunError`` if a folder is missing or holds no runs, ``OSError`` if ``into`` cannot be written.
    """
    from sparse_ae.reporting.collect import collect, to_csv
    from sparse_ae.reporting.console import print_sweep, tell
    from sparse_ae.reporting.figures import draw
    from sparse_ae.reporting.pages import render_sweep
    from sparse_ae.reporting.search_figures import draw_searches

    sweep = collect(folders)
    title = ", ".join(folder.resolve().name for folder in folders)
    figures = into / "report"
    make_writable(figures if sweep.finished else into)
    drawings = [*(draw_searches(folders) if sweep.finished else []), *draw(sweep)]
    for drawing in drawings:
        path = figures / f"{drawing.name}.png"
        if drawing.png is None:
            path.unlink(missing_ok=True)  # left by a report of other runs
        else:
            write_atomically(path, drawing.png)
    table, page = into / "summary.csv", into / "report.html"
    # A folder's name need not be valid text.
    write_atomically(table, to_csv(sweep).encode(errors="replace"))
    write_atomically(page, render_sweep(sweep, drawings, title).encode(errors="replace"))
    print_sweep(sweep, title)
    tell(f"report: {page}")
    tell(f"table:  {table}")


def _parser() -> Parser:
    description = "Compare runs: write summary.csv, report.html and report/*.png. The runs may still be training."
    parser = Parser(PROGRAM, description)
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="folder of runs, such as outputs/default")
    parser.add_argument("--into", type=Path, metavar="DIR", help="folder to write into; default: the one DIR given")
    return parser


def _target(folders: Sequence[Path], into: Path | None) -> Path:
    """Return the folder to write into. Raises ``ConfigError`` if the command line leaves it open."""
    if not folders:
        raise ConfigError("DIR", reason="is required", expected="folders of runs, such as outputs/default")
    if into is not None:
        return into
    if len(folders) > 1:
        raise ConfigError("--into", reason="is required with several folders", expected="a folder to write into")
    if (folders[0] / "status.json").is_file():
        raise ConfigError(str(folders[0]), reason="is a run itself", expected="the folder it is in, or --into DIR")
    return folders[0]


if __name__ == "__main__":
    main()
