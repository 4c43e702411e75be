"""Curves: scalars of many runs over training, and measures over numbers of units."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import Array, finish, lighter, log_positions, looks

_MOST_ENTRIES = 12
_LIGHTEST = 0.7


class Curves(NamedTuple):
    """One panel: a scalar of R runs."""

    ylabel: str
    """Label of the y axis."""
    lines: Sequence[tuple[Array, Array] | None]
    """Steps and values ``(T,)`` of each run; None for a run that has logged none."""


def curve_panels(panels: Sequence[Curves], method: Sequence[str], weight: Array, *, title: str) -> Figure:
    """A panel per scalar with a line per run: colour and line style by ``method``, darker for a larger ``weight (R,)``.

    The weight is NaN where the method has none. The legend names every weight, or with many the least and the largest.
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
    """Lightness of a run's line, from the rank of its weight among those of its method."""
    own = np.unique([w for m, w in zip(method, weight, strict=True) if m == method[run] and not np.isnan(w)])
    if len(own) < 2 or np.isnan(weight[run]):
        return 0.0
    return float(_LIGHTEST * (1 - np.searchsorted(own, weight[run]) / (len(own) - 1)))


def _entries(method: Sequence[str], weight: Array) -> dict[int, str]:
    """Legend entries by run: the first run of each method and weight."""
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


def curves_over_units(axes: Axes, units: Array, curves: Mapping[str, Array]) -> Array:
    """Draw each curve ``(K,)`` over ascending numbers of ``units (K,)`` on a logarithmic axis, broken after its 0.

    Returns the positions at which the numbers are drawn.
    """
    x, zeros = log_positions(axes, "x", units), int((units == 0).sum())
    for name, look in looks(list(curves)).items():
        at, value = (np.insert(values.astype(float), zeros, np.nan) for values in (x, curves[name]))
        axes.plot(at, value, look.line, color=look.colour, marker=look.marker, markersize=3.5, label=name)
    axes.set_ylim(bottom=0)
    return x
