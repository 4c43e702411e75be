"""The report as a table: ``summary.csv`` with everything, and on the console what one looks at first."""

import csv
import io
import math

from rich import box
from rich.table import Table
from rich.text import Text

from sparse_ae.reporting.collect import Entry, Sweep
from sparse_ae.reporting.columns import cell_text
from sparse_ae.reporting.console import METRICS, TIMES, Shown, console

_WIDEST = 1000  # characters, where no terminal sets the limit


KEY_METRICS = tuple(shown for shown in METRICS if shown.brief)
"""The test metrics that the tables show."""


def metric_names(sweep: Sweep) -> list[str]:
    """Every test metric that any run has."""
    return list(dict.fromkeys(name for entry in sweep.entries for name in entry.metrics))


def config_cell(entry: Entry, column: str) -> str:
    """A run's value of a configuration column; empty if its configuration has no such key."""
    return cell_text(entry.config[column]) if column in entry.config else ""


def metric_cell(entry: Entry, metric: Shown) -> str:
    """A run's value of a metric as shown; empty if there is none."""
    value = entry.metrics.get(f"test/{metric.name}")
    return "" if value is None or math.isnan(value) else metric.form.format(value)


def time_cell(entry: Entry, time: Shown) -> str:
    """One of a run's times as shown; empty if unknown."""
    value = entry.times.get(time.name)
    return "" if value is None else time.form.format(value)


def to_csv(sweep: Sweep) -> str:
    """A row per run: ``run``, the columns in which the runs differ, every test metric, ``TIMES``, ``state``.

    Numbers in full precision; empty is unknown, undefined or not among this run's keys.
    """
    names = metric_names(sweep)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *sweep.columns, *names, *(time.name for time in TIMES), "state"])
    for entry in sweep.entries:
        config = [config_cell(entry, column) for column in sweep.columns]
        metrics = [entry.metrics.get(name) for name in names]
        times = [entry.times.get(time.name) for time in TIMES]
        writer.writerow([entry.name, *config, *metrics, *times, entry.state])
    return text.getvalue()


def print_table(sweep: Sweep, title: str) -> None:
    """The runs with their key metrics, how many are in which state, and what is known of those not finished."""
    table = Table(title=_plain(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=12)
    for column in sweep.columns:
        table.add_column(_plain(column.replace(".", ".\n")), overflow="fold", min_width=4)
    for shown in (*KEY_METRICS, *TIMES):
        table.add_column(shown.label.replace(" ", "\n"), justify="right", overflow="fold", min_width=7)
    table.add_column("state", overflow="fold", min_width=8)
    for entry in sweep.entries:
        config = [config_cell(entry, column) for column in sweep.columns]
        metrics = [metric_cell(entry, metric) for metric in KEY_METRICS]
        times = [time_cell(entry, time) for time in TIMES]
        cells = [entry.name, *config, *metrics, *times, entry.state]
        table.add_row(*(_plain(cell) for cell in cells))
    out = console()
    if not out.is_terminal:
        out.width = out.measure(table, options=out.options.update(max_width=_WIDEST)).maximum
    out.print(table)
    out.print(_plain(sweep.verdict))
    for entry in sweep.unfinished:
        out.print(_plain(f"  {entry.state}: {entry.name}{f': {entry.error}' if entry.error else ''}"))


def _plain(text: str) -> Text:
    """Text from a run's files: no markup, and nothing that steers a terminal."""
    return Text("".join(character if character.isprintable() or character == "\n" else " " for character in text))
