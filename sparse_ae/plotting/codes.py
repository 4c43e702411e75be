"""How sparse codes are."""

import math

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import BLUE, GREY, Array


def sparsity_panels(
    population: Array, lifetime: Array, code_counts: Array, code_edges: Array, *, threshold: float, title: str
) -> Figure:
    """Three panels: population sparsity ``(B,)`` over samples, lifetime sparsity ``(N,)`` over units, and the
    distribution of all codes as histogram ``code_counts (K,)`` between ``code_edges (K + 1,)``.
    """
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    active = f"active (code > {threshold:g})"
    _share_histogram(left, population, of=len(lifetime), xlabel=f"share of units {active}", ylabel="samples")
    left.set_title("Population sparsity, per sample")
    _share_histogram(middle, lifetime, of=len(population), xlabel=f"share of samples {active}", ylabel="units")
    middle.set_title("Lifetime sparsity, per unit")
    right.stairs(code_counts, code_edges, fill=True, color=BLUE)
    right.set_yscale("log")
    right.axvline(threshold, color=GREY, linestyle="--", linewidth=1)
    right.annotate(
        f"threshold {threshold:g}",
        (threshold, 0.97),
        xycoords=right.get_xaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        color=GREY,
        va="top",
    )
    right.set(title="Codes, all units and samples", xlabel="code", ylabel="number of codes (log)")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def _share_histogram(axes: Axes, shares: Array, *, of: int, xlabel: str, ylabel: str) -> None:
    """Shares are counts out of ``of``: bins hold whole numbers of counts, or aliasing would tear gaps."""
    most = max(1, round(float(shares.max(initial=0)) * of))
    counts_per_bin = math.ceil((most + 1) / 50)
    edges = (np.arange(0, most + 1 + counts_per_bin, counts_per_bin) - 0.5) / of
    counts, _ = np.histogram(shares, bins=edges)
    axes.stairs(counts, edges, fill=True, color=BLUE)
    mean = float(shares.mean()) if len(shares) else math.nan
    axes.axvline(mean, color=GREY, linestyle="--", linewidth=1, label=f"mean {mean:.3f}")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(frameon=False)
