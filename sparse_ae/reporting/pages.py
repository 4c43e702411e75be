"""HTML pages of one run and of many, a single file each with its pictures inside.

Text from a run's folder is escaped, so that a folder from someone else cannot act in the reader's browser.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparse_ae.atomic import write_atomically
from sparse_ae.reporting.analyses import read_found, reading_order
from sparse_ae.reporting.columns import as_number, cell_text
from sparse_ae.reporting.entries import Entry, Sweep, read_entry
from sparse_ae.reporting.labels import KEY_METRICS, TIMES
from sparse_ae.reporting.render import render
from sparse_ae.reporting.results import Table, table_of, text_of, value_text
from sparse_ae.reporting.units import units_pages
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError

if TYPE_CHECKING:  # the page of a run is written by the process that trains it, without matplotlib
    from sparse_ae.reporting.figures import Drawing

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """One figure of a run."""

    name: str
    """Name of the analysis, and of the figure if it has another."""
    png: bytes
    """Content of the file."""


class Cell(NamedTuple):
    """One cell of the table of runs."""

    text: str
    """Text as shown."""
    number: float | None
    """Number to sort by; None to sort by the text."""


class RunView(NamedTuple):
    """One run in the table of runs, and its details."""

    entry: Entry
    """The run."""
    cells: list[Cell]
    """Row of the table, without the name."""
    differences: list[tuple[str, str]]
    """Options in which it differs from other runs."""
    metrics: list[tuple[str, str]]
    """Test metrics by name."""
    times: list[tuple[str, str]]
    """Times by label."""
    figures: list[Picture]
    """Figures of all analyses."""


class AnalysisView(NamedTuple):
    """One analysis on the page of its run."""

    name: str
    """Folder of the analysis."""
    values: list[tuple[str, str]]
    """Single values by name."""
    tables: list[Table]
    """Nested values."""
    figures: list[Picture]
    """Figures of the analysis."""


def write_run_page(run: Run) -> None:
    """Write ``report.html`` into the folder of ``run``: its metrics, times, configuration and analyses.

    Where an analysis has found units in text, also the pages of ``units_pages``, which it links to.
    """
    pages = units_pages(run)
    pages["report.html"] = render_run(read_entry(run.path, run.path.name), list(pages))
    for name, page in pages.items():
        write_atomically(run.path / name, page.encode(errors="replace"))


def render_run(entry: Entry, links: Sequence[str] = ()) -> str:
    """Return the page of one run, with ``links`` to files beside it."""
    return render(
        "run.html",
        title=entry.name,
        state=entry.state,
        links=links,
        stopped=entry.stopped,
        metrics=[(name, value_text(value)) for name, value in entry.metrics.items()],
        times=_times(entry),
        config=[(key, cell_text(value)) for key, value in entry.config.items()],
        analyses=[_analysis_view(entry.run, name) for name in reading_order(entry.run)],
    )


def render_sweep(sweep: Sweep, drawings: "Sequence[Drawing]", title: str) -> str:
    """Return the page of many runs: figures, a table to sort, and the details of each run."""
    return render(
        "sweep.html",
        title=title,
        verdict=sweep.verdict,
        unfinished=sweep.unfinished,
        drawings=drawings,
        labels=["run", *sweep.columns, *(shown.label for shown in (*KEY_METRICS, *TIMES)), "state"],
        runs=[_run_view(entry, sweep.columns) for entry in sweep.entries],
    )


def _run_view(entry: Entry, columns: Sequence[str]) -> RunView:
    config = [Cell(entry.config_text(column), as_number(entry.config.get(column))) for column in columns]
    metrics = [Cell(entry.metric_text(metric), entry.metrics.get(f"test/{metric.name}")) for metric in KEY_METRICS]
    times = [Cell(entry.time_text(time), entry.times.get(time.name)) for time in TIMES]
    return RunView(
        entry,
        cells=[*config, *metrics, *times, Cell(entry.state, None)],
        differences=[(column, cell.text) for column, cell in zip(columns, config, strict=True) if cell.text],
        metrics=[(name, value_text(value)) for name, value in entry.metrics.items()],
        times=_times(entry),
        figures=_pictures(entry.run.figures),
    )


def _times(entry: Entry) -> list[tuple[str, str]]:
    return [(time.label, text) for time in TIMES if (text := entry.time_text(time))]


def _pictures(paths: Iterable[Path]) -> list[Picture]:
    """Read figures of analyses. A file without a PNG's signature is left out: a link may lead to any file."""
    found = []
    for path in paths:
        with suppress(OSError):  # a run that starts over removes its figures
            png = path.read_bytes() if path.is_file() else b""
            if png.startswith(_PNG_SIGNATURE):
                analysis = path.parent.name
                found.append(Picture(analysis if path.stem == analysis else f"{analysis}: {path.stem}", png))
    return found


def _analysis_view(run: Run, name: str) -> AnalysisView:
    try:
        result = read_found(run, name).numbers
    except RunError:  # damaged: its figures may still be worth seeing
        result = {}
    values = [(key, text) for key, value in result.items() if (text := text_of(value)) is not None]
    tables = [table for key, value in result.items() if (table := table_of(key, value)) is not None]
    return AnalysisView(name, values, tables, _pictures(run.figures_of(name)))
