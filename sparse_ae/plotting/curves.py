"""Scalars over training, many runs in one panel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from sparse_ae.plotting.style import Array, finish, lighter, log_positions, looks

_MOST_ENTRIES = 12
_LIGHTEST = 0.7


class Curves(NamedTuple):
    """One panel: a scalar of R runs."""

    ylabel: str
    lines: Sequence[tuple[Array, Array] | None]
    """For each run the steps and values, ``(T,)`` each; None where it has logged none."""


def curve_panels(panels: Sequence[Curves], method: Sequence[str], weight: Array, *, title: str) -> Figure:
    """A panel per scalar, each run a line: colour and line style by ``method``, the darker the larger its ``weight
    (R,)``; NaN where the method has none. The legend names every weight, or with many the least and the largest.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    styles, entries = looks(method), _entries(method, weight)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        drawn = [line for line in panel.lines if line is not None]
        values = np.concatenate([value for _, value in drawn]) if drawn else np.zeros(0)
        finite = values[np.isfinite(values)]
        if len(finite) and finite.min() > 0:
            log_positions(axes, "y", finite)
        for run, line in enumerate(panel.lines):
            if line is None:
                continue
            look = styles[method[run]]
            colour = lighter(look.colour, _shade(run, method, weight))
            marker = "." if len(line[0]) < 10 else ""
            axes.plot(*line, look.line, marker=marker, color=colour, linewidth=1.2, label=entries.get(run, "_"))
        axes.set(xlabel="training step", ylabel=panel.ylabel)
        axes.set_xlim(left=0)
    finish(figure, title, columns=4)
    return figure


def _shade(run: int, method: Sequence[str], weight: Array) -> float:
    """How light a run's line is: by the rank of its weight among those of its method."""
    own = np.unique([w for m, w in zip(method, weight, strict=True) if m == method[run] and not np.isnan(w)])
    if len(own) < 2 or np.isnan(weight[run]):
        return 0.0
    return float(_LIGHTEST * (1 - np.searchsorted(own, weight[run]) / (len(own) - 1)))


def _entries(method: Sequence[str], weight: Array) -> dict[int, str]:
    """Which runs the legend names, and how: the first of each method and weight."""
    first: dict[tuple[str, float], int] = {}
    for run, (name, value) in enumerate(zip(method, weight.tolist(), strict=True)):
        first.setdefault((name, -1.0 if np.isnan(value) else value), run)
    many = len(first) > _MOST_ENTRIES
    entries = {}
    for name, value in sorted(first):
        own = sorted(v for m, v in first if m == name)
        if not many or value in (own[0], own[-1]):
            entries[first[name, value]] = name if value < 0 else f"{name}, weight {value:g}"
    return entries
