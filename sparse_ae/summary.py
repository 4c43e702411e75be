"""The tables that commands print."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

_ROWS = {
    "mse": ("MSE", "{:.5f}"),
    "fvu": ("FVU", "{:.4f}"),
    "l0": ("L0 (codes != 0 per sample)", "{:.1f}"),
    "population_sparsity": ("population sparsity (share of units active per sample)", "{:.4f}"),
    "lifetime_sparsity": ("lifetime sparsity (share of samples active, mean over units)", "{:.4f}"),
    "hoyer": ("Hoyer sparseness", "{:.4f}"),
    "inactive_units": ("inactive units (active on < 1 % of samples)", "{:.0f}"),
    "dead_units": ("dead units (never != 0)", "{:.0f}"),
}


def print_metrics(metrics: Mapping[str, float | None], split: str, *, title: str, units: int) -> None:
    """The metrics of one split as a table, counts of units out of ``units``."""
    table = Table(title=title, title_justify="left")
    table.add_column(split)
    table.add_column("value", justify="right")
    for name, (label, form) in _ROWS.items():
        value = metrics.get(f"{split}/{name}")
        text = "undefined" if value is None or math.isnan(value) else form.format(value)
        table.add_row(label, f"{text} / {units}" if name.endswith("_units") else text)
    console().print(table)


def console() -> Console:
    """Standard output, wide enough that paths are not broken where it is no terminal."""
    plain = Console(soft_wrap=True, highlight=False)
    return plain if plain.is_terminal else Console(soft_wrap=True, highlight=False, width=100)
