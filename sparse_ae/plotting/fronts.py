"""Fronts: two quantities to be minimised against each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import GREY, Array, finish, log_positions, looks


class Front(NamedTuple):
    """One panel: a quantity of R runs, and those of them on the front."""

    xlabel: str
    """Label of the x axis."""
    x: Array
    """Values ``(R,) >= 0``; NaN is not drawn."""
    best: npt.NDArray[np.bool_]
    """True for the runs on the front, ``(R,)``."""
    knee: int | None
    """Index of the run to be ringed."""
    knee_label: str
    """Text at the knee."""


def non_dominated(x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """True for the points ``(R,), (R,)`` that no other point equals in both and betters in one; False for NaN."""
    as_good = (x[None] <= x[:, None]) & (y[None] <= y[:, None])
    better = (x[None] < x[:, None]) | (y[None] < y[:, None])
    known: npt.NDArray[np.bool_] = ~(np.isnan(x) | np.isnan(y))
    return known & ~(as_good & better).any(axis=1)


def front_panels(y: Array, fronts: Sequence[Front], method: Sequence[str], *, ylabel: str, title: str) -> Figure:
    """A panel per front, both axes logarithmic: its runs joined, the others faded, the knee ringed and named.

    ``y (R,)``; ``method`` of each run sets colour and marker.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, front in zip(figure.subplots(1, len(fronts), squeeze=False)[0], fronts, strict=True):
        known = ~np.isnan(front.x) & ~np.isnan(y)
        x_at, y_at = np.full_like(front.x, np.nan), np.full_like(y, np.nan)
        x_at[known] = log_positions(axes, "x", front.x[known])
        y_at[known] = log_positions(axes, "y", y[known])
        _join(axes, x_at, y_at, front)
        for name, look in looks(method).items():
            own = np.array([m == name for m in method]) & known
            for part, alpha in ((own & front.best, 1.0), (own & ~front.best, 0.25)):
                axes.plot(x_at[part], y_at[part], look.marker, color=look.colour, alpha=alpha, markersize=7)
            axes.plot([], [], look.marker, color=look.colour, markersize=7, label=name)
        if front.knee is not None:
            _mark_knee(axes, x_at[front.knee], y_at[front.knee], front.knee_label)
        axes.plot([], [], "o", color=GREY, alpha=0.25, label="dominated")
        axes.set(xlabel=front.xlabel, ylabel=ylabel)
    finish(figure, title, columns=6)
    return figure


def _join(axes: Axes, x: Array, y: Array, front: Front) -> None:
    """Draw a line through the points of the front with x > 0."""
    joined = np.flatnonzero(front.best & (front.x > 0))
    order = joined[np.argsort(x[joined])]
    axes.plot(x[order], y[order], "-", color=GREY, linewidth=1, zorder=1, label="front")


def _mark_knee(axes: Axes, x: float, y: float, label: str) -> None:
    """Ring the knee. Its label stands at the lower left, below and left of every point of a front."""
    axes.plot([x], [y], "o", color="black", fillstyle="none", markersize=14, markeredgewidth=1.5, zorder=3)
    axes.plot([], [], "o", color="black", fillstyle="none", markersize=9, markeredgewidth=1.5, label="knee")
    axes.annotate(
        label,
        (x, y),
        xytext=(0.02, 0.03),
        textcoords="axes fraction",
        fontsize=8.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        arrowprops={"arrowstyle": "-", "color": GREY, "linestyle": ":", "shrinkB": 8},
    )
