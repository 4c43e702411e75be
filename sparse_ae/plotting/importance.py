"""What single units are worth."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import BLUE, GREY, Array, finish, log_positions
from sparse_ae.plotting.truncation import curves_over_units

_HARMFUL = "#CC79A7"


def importance_panels(
    importance: Array,
    lifetime: Array,
    used: npt.NDArray[np.bool_],
    kept: Array,
    curves: Mapping[str, Array],
    *,
    correlation: float | None,
    title: str,
) -> Figure:
    """Three panels: ``importance (N,)`` sorted, the same against ``lifetime (N,)`` sparsity, and the MSE ``curves
    (K,)`` over the numbers of units ``kept (K,)``. Units not ``used (N,)`` are dead: counted, not drawn.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    order = np.argsort(-importance[used], kind="stable")
    value, share = importance[used][order], lifetime[used][order]
    _magnitudes(left, np.arange(1.0, len(value) + 1), value)
    left.set(title="Sorted", xlabel="rank among the units", ylabel="importance (|increase in MSE|)")
    spread = share.max(initial=0) > 10 * share.min(initial=1)  # less than a decade has hardly a tick on a log axis
    _magnitudes(middle, log_positions(middle, "x", share) if spread else share, value)
    rho = "undefined" if correlation is None else f"{correlation:.2f}"
    middle.set(title=f"Against use: rank correlation {rho}", ylabel="importance (|increase in MSE|)")
    middle.set_xlabel("lifetime sparsity (share of samples active)")
    curves_over_units(right, kept, curves)
    right.set(title="Many units at once", xlabel="units kept or removed, in all samples", ylabel="MSE")
    finish(figure, title, columns=3)
    return figure


def _magnitudes(axes: Axes, x: Array, value: Array) -> None:
    """|value| on a logarithmic axis, those below 0 in another colour."""
    if len(value) == 0:
        axes.text(0.5, 0.5, "all units are dead", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    y = log_positions(axes, "y", np.abs(value))
    for part, colour, label in (
        (value >= 0, BLUE, "needed: MSE grows without the unit"),
        (value < 0, _HARMFUL, "harmful: MSE falls without it"),
    ):
        if part.any():
            axes.plot(x[part], y[part], "o", color=colour, markersize=3.5, markeredgewidth=0, alpha=0.7, label=label)
