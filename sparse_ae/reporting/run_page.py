"""One run as a page: how it was made, its test metrics, and what each analysis found."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparse_ae.atomic import write_atomically
from sparse_ae.reporting.analyses import Found, read_found, reading_order
from sparse_ae.reporting.collect import Entry, collect
from sparse_ae.reporting.columns import cell_text
from sparse_ae.reporting.console import TIMES
from sparse_ae.reporting.html import Picture, pictures, render_page, value_text
from sparse_ae.reporting.tables import time_cell
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError

_MOST = 20
"""Longer lists are not shown."""


class Table(NamedTuple):
    """Numbers with two names each."""

    corner: str
    """The name of all rows; none where there is a single one."""
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    """Name and cells."""


class AnalysisView(NamedTuple):
    """One analysis as the page shows it."""

    name: str
    values: list[tuple[str, str]]
    """Its single values."""
    tables: list[Table]
    """Its nested ones."""
    figures: list[Picture]


def write_run_page(run: Run) -> None:
    """Write ``report.html`` into the run's folder, from what is in it."""
    (entry,) = collect([run.path]).entries
    write_atomically(run.path / "report.html", render_run(entry).encode(errors="replace"))


def render_run(entry: Entry) -> str:
    """The whole page."""
    return render_page(
        "run.html",
        script=None,
        title=entry.name,
        state=entry.state,
        metrics=[(name, value_text(value)) for name, value in entry.metrics.items()],
        times=[(time.label, text) for time in TIMES if (text := time_cell(entry, time))],
        config=[(key, cell_text(value)) for key, value in entry.config.items()],
        analyses=[_view(entry.run, name) for name in reading_order(entry.run)],
    )


def _view(run: Run, name: str) -> AnalysisView:
    try:
        found = read_found(run, name)
    except RunError:  # damaged: its figures may still be worth seeing
        found = Found({}, {})
    result = found.numbers
    values = [(key, text) for key, value in result.items() if (text := _text(value)) is not None]
    tables = [table for key, value in result.items() if (table := _table(key, value)) is not None]
    return AnalysisView(name, values, tables, pictures(run.figures_of(name)))


def _text(value: Any) -> str | None:
    """A single value, or a short list of such; else None."""
    if isinstance(value, list) and len(value) <= _MOST and not any(isinstance(each, dict | list) for each in value):
        return ", ".join(map(value_text, value)) or "none"
    return None if isinstance(value, dict | list) else value_text(value)


def _table(name: str, value: Any) -> Table | None:
    """Of ``{column: value}`` one row; of ``{row: {column: value}}``, or a short list of such rows, a row each. What is
    nested deeper is left out; None if nothing is left.
    """
    if isinstance(value, list) and len(value) <= _MOST and all(isinstance(row, dict) for row in value):
        value = {str(number): row for number, row in enumerate(value, start=1)}
    if not isinstance(value, dict):
        return None
    nested = all(isinstance(row, dict) for row in value.values())
    rows = {key: _texts(row) for key, row in (value if nested else {name: value}).items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if not columns:
        return None
    cells = [(key, [row.get(column, "") for column in columns]) for key, row in rows.items()]
    return Table(name if nested else "", columns, cells)


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {column: text for column, value in row.items() if (text := _text(value)) is not None}
