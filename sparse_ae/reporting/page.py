"""The report of many runs as a page: figures, a table to sort, and each run's details."""

from collections.abc import Sequence
from typing import NamedTuple

from sparse_ae.reporting.collect import Entry, Sweep
from sparse_ae.reporting.columns import as_number
from sparse_ae.reporting.console import TIMES
from sparse_ae.reporting.figures import Drawing
from sparse_ae.reporting.html import Picture, pictures, render_page, value_text
from sparse_ae.reporting.tables import KEY_METRICS, config_cell, metric_cell, time_cell


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
    cells: list[Cell]
    differences: list[tuple[str, str]]
    metrics: list[tuple[str, str]]
    times: list[tuple[str, str]]
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
        labels=["run", *sweep.columns, *(shown.label for shown in (*KEY_METRICS, *TIMES)), "state"],
        runs=[_view(entry, sweep.columns) for entry in sweep.entries],
    )


def _view(entry: Entry, columns: Sequence[str]) -> RunView:
    config = [Cell(config_cell(entry, column), as_number(entry.config.get(column))) for column in columns]
    metrics = [Cell(metric_cell(entry, metric), entry.metrics.get(f"test/{metric.name}")) for metric in KEY_METRICS]
    times = [Cell(time_cell(entry, time), entry.times.get(time.name)) for time in TIMES]
    differences = [(column, cell.text) for column, cell in zip(columns, config, strict=True) if cell.text]
    values = [(name, value_text(value)) for name, value in entry.metrics.items()]
    took = [(time.label, cell.text) for time, cell in zip(TIMES, times, strict=True) if cell.text]
    cells = [*config, *metrics, *times, Cell(entry.state, None)]
    return RunView(entry.name, entry.state, entry.error, cells, differences, values, took, pictures(entry.run.figures))
