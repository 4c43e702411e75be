"""Reconstructions from a few codes of each image."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import BLUE, GREY, Array, finish, lighter, log_positions, looks

_SHADES = (0.65, 0.35, 0.0)


def truncation_panels(
    kept: Array,
    fvu: Mapping[str, Array],
    consistency: Mapping[str, Array],
    marks: Sequence[tuple[str, float, float]],
    *,
    title: str,
) -> Figure:
    """FVU and class consistency ``(K,)`` by order, over the numbers of codes ``kept (K,)``. ``marks``: a name, a number
    of codes and an FVU each, to be ringed.
    """
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, curves in ((left, fvu), (right, consistency)):
        x = curves_over_units(axes, kept, curves)
        axes.set_xlabel("codes kept in each image, m")
    left.axhline(1, color=GREY, linewidth=1)
    for (name, m, value), marker in zip(marks, "osD", strict=False):
        ring = {"color": "black", "fillstyle": "none", "linestyle": "", "marker": marker, "markersize": 8}
        left.plot([np.interp(m, kept, x)], [value], label=name, **ring)
    left.set(title="Reconstruction", ylabel="FVU (1: the mean training image)")
    right.set(title="Class consistency", ylabel="share with the same class mean nearest")
    finish(figure, title, columns=4)
    return figure


def curves_over_units(axes: Axes, units: Array, curves: Mapping[str, Array]) -> Array:
    """Each curve ``(K,)`` over increasing numbers of ``units (K,)`` on a logarithmic axis, broken after its 0. Returns
    where the numbers are drawn.
    """
    x, zeros = log_positions(axes, "x", units), int((units == 0).sum())
    for name, look in looks(list(curves)).items():
        at, value = (np.insert(values.astype(float), zeros, np.nan) for values in (x, curves[name]))
        axes.plot(at, value, look.line, color=look.colour, marker=look.marker, markersize=3.5, label=name)
    axes.set_ylim(bottom=0)
    return x


def class_bars(needed: Mapping[str, Sequence[float | None]], shares: Sequence[str], *, title: str) -> Figure:
    """For each class numbers of codes, a bar for each of the ``shares`` (up to 3); None is marked n/a."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(shares)
    for i, (share, shade) in enumerate(zip(shares, _SHADES, strict=False)):
        values = [units[i] for units in needed.values()]
        at = np.arange(len(values)) + (i - (len(shares) - 1) / 2) * width
        bars = axes.bar(at, [value or 0 for value in values], 0.94 * width, color=lighter(BLUE, shade), label=share)
        texts = ["n/a" if value is None else f"{value:.0f}" for value in values]
        axes.bar_label(bars, texts, fontsize=7.5, color=GREY)
    axes.set_xticks(range(len(needed)), list(needed))
    axes.set(xlabel="class", ylabel="largest codes kept")
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    finish(figure, title, columns=3)
    axes.grid(visible=False, axis="x")
    return figure
