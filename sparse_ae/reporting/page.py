"""The report of many runs as a page: figures, a table to sort, and each run's details."""

from collections.abc import Sequence
from typing import NamedTuple

from sparse_ae.reporting.collect import Entry, Sweep
from sparse_ae.reporting.columns import as_number
from sparse_ae.reporting.figures import Drawing
from sparse_ae.reporting.html import Picture, pictures, render_page, value_text
from sparse_ae.reporting.tables import KEY_METRICS, config_cell, metric_cell, seconds_cell


class Cell(NamedTuple):
    """One cell of the table of runs."""

    text: str
    number: float | None
    """What it sorts by, unless by its text."""


class RunView(NamedTuple):
    """One run as the page shows it."""

    name: str
    state: str
    error: str
    seconds: str
    cells: list[Cell]
    differences: list[tuple[str, str]]
    metrics: list[tuple[str, str]]
    figures: list[Picture]


def render(sweep: Sweep, drawings: Sequence[Drawing], title: str) -> str:
    """The whole page."""
    return render_page(
        "page.html",
        script="page.js",
        title=title,
        verdict=sweep.verdict,
        unfinished=sweep.unfinished,
        drawings=drawings,
        labels=["run", *sweep.columns, *(metric.label for metric in KEY_METRICS), "seconds", "state"],
        runs=[_view(entry, sweep.columns) for entry in sweep.entries],
    )


def _view(entry: Entry, columns: Sequence[str]) -> RunView:
    config = [Cell(config_cell(entry, column), as_number(entry.config.get(column))) for column in columns]
    metrics = [Cell(metric_cell(entry, metric), entry.metrics.get(f"test/{metric.name}")) for metric in KEY_METRICS]
    seconds = Cell(seconds_cell(entry), entry.seconds)
    differences = [(column, cell.text) for column, cell in zip(columns, config, strict=True) if cell.text]
    values = [(name, value_text(value)) for name, value in entry.metrics.items()]
    cells = [*config, *metrics, seconds, Cell(entry.state, None)]
    return RunView(
        entry.name, entry.state, entry.error, seconds.text, cells, differences, values, pictures(entry.run.figures)
    )
