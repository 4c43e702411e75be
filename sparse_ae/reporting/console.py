"""What commands print about runs."""

import logging
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from sparse_ae.runs.directory import Run

log = logging.getLogger(__name__)


class Shown(NamedTuple):
    """How a metric is shown."""

    name: str
    """Without its split."""
    label: str
    meaning: str
    """What the label leaves open, where there is room for it."""
    form: str
    brief: str
    """Its label where there is little room; empty: left out there."""


METRICS = (
    Shown("mse", "MSE", "", "{:.5f}", "MSE"),
    Shown("fvu", "FVU", "", "{:.4f}", "FVU"),
    Shown("l0", "L0", "codes != 0 per sample", "{:.1f}", "L0"),
    Shown("population_sparsity", "population sparsity", "share of units active per sample", "{:.4f}", "population"),
    Shown("lifetime_sparsity", "lifetime sparsity", "share of samples active, mean over units", "{:.4f}", ""),
    Shown("hoyer", "Hoyer sparseness", "", "{:.4f}", ""),
    Shown("inactive_units", "inactive units", "active on < 1 % of samples", "{:.0f}", "inactive"),
    Shown("dead_units", "dead units", "never != 0", "{:.0f}", "dead"),
)

TIMES = (
    Shown("wall_seconds", "seconds", "seconds in all", "{:.0f}", ""),
    Shown("fit_seconds", "fit seconds", "seconds to fit", "{:.1f}", "fit"),
    Shown("encode_microseconds", "encode µs", "µs to encode an image", "{:.1f}", "encode"),
)
"""What ``status.json`` says of a run's times."""


def print_metrics(metrics: Mapping[str, float | None], split: str, *, title: str, units: int) -> None:
    """The metrics of one split as a table, counts of units out of ``units``."""
    table = Table(title=title, title_justify="left")
    table.add_column(split)
    table.add_column("value", justify="right")
    for shown in METRICS:
        value = metrics.get(f"{split}/{shown.name}")
        text = "undefined" if value is None or math.isnan(value) else shown.form.format(value)
        label = f"{shown.label} ({shown.meaning})" if shown.meaning else shown.label
        table.add_row(label, f"{text} / {units}" if _counts_units(shown) else text)
    console().print(table)


def key_metrics(run: Run) -> str:
    """A finished run in one line: ``MSE 0.00470  FVU 0.0700  L0 49.4 ...``"""
    units, metrics = run.units, run.metrics
    parts = []
    for shown in METRICS:
        value = metrics.get(f"test/{shown.name}")
        if shown.brief and value is not None:
            of = f"/{units}" if _counts_units(shown) else ""
            parts.append(f"{shown.brief} {shown.form.format(value)}{of}")
    target = run.status.target
    if target and not target["met"]:
        parts.append(f"target {target['measure']}={target['wanted']:g} missed")
    return "  ".join(parts)


def _counts_units(shown: Shown) -> bool:
    return shown.name.endswith("_units")


def print_run(run: Run, *ideas: str) -> None:
    """A finished run's test metrics, where everything is, and ``ideas`` of what to run next."""
    path = run.shown_path
    print_metrics(run.metrics, "test", title=run.path.name, units=run.units)
    figures = [str(figure.relative_to(run.path)) for figure in run.figures]
    out = console()
    out.print(f"run:      {path}")
    out.print(f"took:     {', '.join(_times(run))}")
    if figures:
        out.print(f"figures:  {', '.join(figures)}")
    out.print(f"report:   {path / 'report.html'}")
    out.print(f"watch:    tensorboard --logdir {path.parent}")
    for label, idea in zip(("next:", *[""] * len(ideas)), ideas, strict=False):
        out.print(f"{label:<10}{idea.format(run=path)}", markup=False)


def _times(run: Run) -> Iterator[str]:
    for shown in TIMES:
        value = getattr(run.status, shown.name)
        if value is not None:
            yield f"{shown.form.format(value)} {shown.meaning}"


def console() -> Console:
    """Standard output, wide enough that paths are not broken where it is no terminal."""
    plain = Console(soft_wrap=True, highlight=False)
    return plain if plain.is_terminal else Console(soft_wrap=True, highlight=False, width=100)


def tell(line: str) -> None:
    """Print one line."""
    print(line, flush=True)


def warn(line: str) -> None:
    """Print a warning, one line, and log it."""
    log.warning(line)
    print(f"warning: {line}", flush=True)
