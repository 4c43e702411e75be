"""The report as one HTML file that needs nothing else: figures, a table to sort, and each run's details.

Whatever comes from a run's folder is escaped, and the page's own policy lets no script run but the one it is written
with: a folder that someone sent cannot act in the reader's browser.
"""

import base64
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sparse_ae.reporting.collect import Entry, Sweep
from sparse_ae.reporting.columns import as_number
from sparse_ae.reporting.figures import Drawing
from sparse_ae.reporting.tables import KEY_METRICS, config_cell, metric_cell, seconds_cell

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Cell(NamedTuple):
    """One cell of the table of runs."""

    text: str
    number: float | None
    """What it sorts by, unless by its text."""


class Picture(NamedTuple):
    """A figure of one run."""

    name: str
    png: bytes


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
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["data_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    script = _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_own("page.html")).render(
        title=title,
        verdict=sweep.verdict,
        unfinished=sweep.unfinished,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        drawings=drawings,
        labels=["run", *sweep.columns, *(metric.label for metric in KEY_METRICS), "seconds", "state"],
        runs=[_view(entry, sweep.columns) for entry in sweep.entries],
        style=Markup(_own("page.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


def _own(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _view(entry: Entry, columns: Sequence[str]) -> RunView:
    config = [Cell(config_cell(entry, column), as_number(entry.config.get(column))) for column in columns]
    metrics = [Cell(metric_cell(entry, metric), entry.metrics.get(f"test/{metric.name}")) for metric in KEY_METRICS]
    seconds = Cell(seconds_cell(entry), entry.seconds)
    differences = [(column, cell.text) for column, cell in zip(columns, config, strict=True) if cell.text]
    values = [(name, "undefined" if value is None else f"{value:.6g}") for name, value in entry.metrics.items()]
    cells = [*config, *metrics, seconds, Cell(entry.state, None)]
    return RunView(entry.name, entry.state, entry.error, seconds.text, cells, differences, values, _pictures(entry))


def _pictures(entry: Entry) -> list[Picture]:
    """The run's figures. What is no PNG is left out: a link by that name may lead to any file of the reader's."""
    found = []
    with suppress(OSError):  # a run that starts over removes all of them
        for path in entry.run.figures:
            with suppress(OSError):  # a link that leads nowhere
                if not path.is_file():  # a pipe would be read for ever
                    continue
                png = path.read_bytes()
                if png.startswith(_PNG_SIGNATURE):
                    analysis = path.parent.name
                    found.append(Picture(analysis if path.stem == analysis else f"{analysis}: {path.stem}", png))
    return found
