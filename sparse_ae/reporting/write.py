"""From folders of runs to a report on disk."""

from collections.abc import Sequence
from pathlib import Path

from sparse_ae.atomic import make_writable, write_atomically
from sparse_ae.reporting.collect import collect
from sparse_ae.reporting.figures import draw
from sparse_ae.reporting.page import render
from sparse_ae.reporting.tables import print_table, to_csv


def write_report(folders: Sequence[Path], into: Path) -> None:
    """Write ``summary.csv``, ``report.html`` and ``report/*.png`` into ``into``, and print the table.

    Each file is replaced in one step, so that two reports at once, or one of a sweep that goes on, do no harm. Raises
    ``RunError`` if a folder is missing or holds no runs, ``OSError`` if ``into`` cannot be written.
    """
    sweep = collect(folders)
    title = ", ".join(folder.resolve().name for folder in folders)
    figures = into / "report"
    make_writable(figures if sweep.finished else into)
    drawings = draw(sweep)
    for drawing in drawings:
        path = figures / f"{drawing.name}.png"
        if drawing.png is None:
            path.unlink(missing_ok=True)  # what an earlier report drew of other runs
        else:
            write_atomically(path, drawing.png)
    # A folder's name need not be valid text.
    write_atomically(into / "summary.csv", to_csv(sweep).encode(errors="replace"))
    write_atomically(into / "report.html", render(sweep, drawings, title).encode(errors="replace"))
    print_table(sweep, title)
    print(f"report: {into / 'report.html'}")
    print(f"table:  {into / 'summary.csv'}")
