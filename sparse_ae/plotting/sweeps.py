"""Panels of measures over one option that was swept."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import LINES, Array, Look, finish, lighter, log_positions, looks

_MOST_TICKS = 8
_MOST_GROUPS = 8
"""Number of groups that a legend can name before it is longer than the figure."""


class Panel(NamedTuple):
    """One panel: a measure of R runs."""

    ylabel: str
    """Label of the y axis."""
    values: Array
    """Values ``(R,)``; NaN is not drawn."""
    log: bool = False
    """True for a logarithmic y axis."""


def sweep_panels(
    x: Array, panels: Sequence[Panel], method: Sequence[str], group: Sequence[str], *, xlabel: str, title: str
) -> Figure:
    """A panel per measure over ``x (R,) >= 0``, logarithmic.

    Runs of one ``group`` and ``x`` are repetitions: a line joins their means, and each stands faint behind it.
    ``method`` sets colour and marker.
    """
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    styles, groups = looks(method), list(dict.fromkeys(zip(method, group, strict=True)))
    few = len(groups) <= _MOST_GROUPS
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        known = ~np.isnan(x) & ~np.isnan(panel.values)
        at = log_positions(axes, "x", x[known])
        y = log_positions(axes, "y", panel.values[known]) if panel.log else panel.values[known]
        zero = x[known] == 0
        owners = [pair for pair, drawn in zip(zip(method, group, strict=True), known, strict=True) if drawn]
        for pair in groups:
            own = np.array([owner == pair for owner in owners], dtype=bool)
            siblings = [other for other in groups if other[0] == pair[0]]
            place = siblings.index(pair)
            look = styles[pair[0]]._replace(line=LINES[place % len(LINES)])
            shade = 0.6 * (1 - (place + 1) / len(siblings))
            label = ", ".join(part for part in pair if part) if few else pair[0]
            _draw_group(axes, at[own], y[own], panel.values[known][own], zero[own], look, shade, label)
        if len(places := np.unique(x[known])) <= _MOST_TICKS and (places >= 1).all():
            axes.xaxis.set_major_locator(ticker.FixedLocator(places.tolist()))
            axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.set(xlabel=xlabel, ylabel=panel.ylabel)
        if not panel.log:
            axes.set_ylim(bottom=min(0.0, float(y.min(initial=0))))
            axes.yaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    finish(figure, title, columns=4)
    return figure


def _draw_group(
    axes: Axes, x: Array, y: Array, values: Array, zero: np.ndarray, look: Look, shade: float, label: str
) -> None:
    """Draw one line through the means of ``values``, which stand at ``x, y``.

    Points at the tick 0 of a logarithmic x axis are not joined to it.
    """
    colour = lighter(look.colour, shade)
    places = np.unique(x)
    means = np.array([values[x == place].mean() or y[x == place].mean() for place in places])
    joined = np.isin(places, x[~zero])
    if len(places) < len(x):
        axes.plot(x, y, look.marker, color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    axes.plot(places[joined], means[joined], look.line, marker=look.marker, color=colour, markersize=5.5, label=label)
    axes.plot(places[~joined], means[~joined], look.marker, color=colour, markersize=5.5)
