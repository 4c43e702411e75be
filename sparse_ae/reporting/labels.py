"""Labels and formats of the metrics and times that every table shows."""

import math
from typing import NamedTuple


class Shown(NamedTuple):
    """One metric or time as tables show it."""

    name: str
    """Key in ``metrics.json`` without its split, or in ``status.json``."""
    label: str
    """Short name."""
    meaning: str
    """Explanation or unit, for tables with room for it."""
    form: str
    """Format of the value."""
    brief: str
    """Label where room is short; empty if the value is left out there."""

    @property
    def counts_units(self) -> bool:
        """True if the value is a number of the model's units."""
        return self.name.endswith("_units")

    def text(self, value: float | None) -> str:
        """Return ``value`` as shown; empty if it is unknown or undefined."""
        return "" if value is None or math.isnan(value) else self.form.format(value)


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
"""Metrics of a split, in the order of ``metrics.json``."""

KEY_METRICS = tuple(shown for shown in METRICS if shown.brief)
"""Metrics that tables of many runs show."""

TIMES = (
    Shown("wall_seconds", "seconds", "seconds in all", "{:.0f}", ""),
    Shown("fit_seconds", "fit seconds", "seconds to fit", "{:.1f}", "fit"),
    Shown("encode_microseconds", "encode µs", "µs to encode a sample", "{:.1f}", "encode"),
)
"""Times of a run in ``status.json``."""
