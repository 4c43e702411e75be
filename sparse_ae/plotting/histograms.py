"""Histograms on an axes: of shares, of codes on logarithmic axes, and of groups one above the other."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes

from sparse_ae.plotting.style import BLUE, GREY, Array, lighter, log_positions, note

_BINS_PER_DECADE = 5
"""Few enough that each of the counts 1, 2, 3 ... falls into one bin and none is empty for want of a count."""
_RIDGE = 0.88
"""Height of the highest of several histograms above one another, 1 being the distance between two of them."""
_RIDGE_LOOK: dict[str, Any] = {"facecolor": lighter(BLUE, 0.55), "edgecolor": BLUE, "linewidth": 0.8}


class Histogram(NamedTuple):
    """Counts of values in bins."""

    counts: Array
    """Counts ``(K,)``."""
    edges: Array
    """Edges ``(K + 1,)``."""
    xlabel: str
    """Label of the x axis."""
    log: bool
    """True for a logarithmic x axis."""


def share_histogram(axes: Axes, shares: Array, *, of: int, xlabel: str, ylabel: str) -> None:
    """Draw ``shares``, which are counts out of ``of``, and a line at their mean."""
    counts, edges = np.histogram(shares, bins=share_edges(shares, of=of))
    axes.stairs(counts, edges, fill=True, color=BLUE)
    mean = float(shares.mean()) if len(shares) else math.nan
    axes.axvline(
        mean, color=GREY, linestyle="--", linewidth=1, label=f"mean {mean:{'.2g' if 0 < mean < 0.01 else '.3f'}}"
    )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(frameon=False)


def share_edges(shares: Array, *, of: int) -> Array:
    """About 50 bins that hold whole numbers of counts out of ``of``, or aliasing would tear gaps."""
    most = max(1, round(float(shares.max(initial=0)) * of))
    counts_per_bin = math.ceil((most + 1) / 50)
    edges: Array = (np.arange(0, most + 1 + counts_per_bin, counts_per_bin) - 0.5) / of
    return edges


def log_share_histogram(axes: Axes, shares: Array, *, of: int) -> None:
    """Draw ``shares``, which are counts out of ``of``, on a logarithmic axis, with zeros apart at 0."""
    bins = max(1, math.floor(_BINS_PER_DECADE * math.log10(of)))
    edges = np.geomspace(0.99 / of, 1, bins + 1)  # 0.99: no count falls on an edge
    zero = log_positions(axes, "x", np.append(shares, edges)).min()
    axes.stairs(np.histogram(shares, bins=edges)[0], edges, fill=True, color=BLUE)
    if never := int((shares == 0).sum()):
        axes.stairs([never], [zero / 1.26, zero * 1.26], fill=True, color=GREY)
        axes.annotate(f"{never}\nnever", (zero, never), xytext=(0, 3), textcoords="offset points", ha="center")


def code_histogram(axes: Axes, codes: Histogram, threshold: float) -> None:
    """Draw a histogram of codes on a logarithmic y axis, with the activity threshold."""
    axes.set(xlabel=codes.xlabel, ylabel="number of codes (log)")
    if not codes.counts.any():
        note(axes, "no code != 0")
        return
    axes.stairs(codes.counts, codes.edges, fill=True, color=BLUE)
    log_positions(axes, "y", np.maximum(codes.counts, 1))
    axes.set_ylim(0.5, 8 * codes.counts.max())  # the threshold's name stands above the bars
    if codes.log:
        log_positions(axes, "x", codes.edges)
    if codes.log and threshold == 0:
        return
    axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        f"threshold {threshold:g}",
        (threshold, 0.97),
        xycoords=axes.get_xaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        color=GREY,
        va="top",
    )


def ridges(axes: Axes, shares: Array, label: npt.NDArray[np.integer], *, classes: int, of: int, xlabel: str) -> None:
    """Draw a histogram of ``shares (B,)``, counts out of ``of``, for each of the ``classes``, one above the other.

    ``label (B,)`` counts classes from 0, which is at the top. All histograms have one axis and one scale, which ends
    where all but 0.5 % of the samples do. Lines are each class's median and the mean of all samples. A class without
    samples is marked, and a share that all samples have in common is written instead.
    """
    if shares.min() == shares.max():
        axes.set(xlim=(0, 1), xlabel=xlabel)
        note(axes, f"{shares[0]:.3g} in all samples")
        return
    end = np.quantile(shares, 0.995, method="higher")
    edges = share_edges(shares[shares <= end], of=of)
    counts = [np.histogram(shares[label == c], bins=edges)[0] for c in range(classes)]
    parts = np.stack([count / max((label == c).sum(), 1) for c, count in enumerate(counts)])
    for c, heights in enumerate(_RIDGE * parts / parts.max()):
        foot = classes - 1 - c
        if not (label == c).any():
            axes.text(edges.mean(), foot + 0.2, "no samples", ha="center", color=GREY, fontsize=9)
            continue
        axes.stairs(foot + heights, edges, baseline=foot, fill=True, **_RIDGE_LOOK)
        median = np.median(shares[label == c])
        axes.plot([median, median], [foot, foot + _RIDGE], "k-", linewidth=1.2, label="median of the class")
    axes.axvline(float(shares.mean()), color=GREY, linestyle="--", linewidth=1, label="mean of all samples")
    beyond = int((shares > edges[-1]).sum())
    axes.set(xlim=(edges[0], edges[-1]), xlabel=f"{xlabel}\n{beyond:,} samples lie beyond" if beyond else xlabel)
