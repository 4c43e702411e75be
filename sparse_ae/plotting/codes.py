"""How sparse codes are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import BLUE, GREY, Array, finish, lighter, log_positions, looks

_BINS_PER_DECADE = 5
"""Few enough that each of the counts 1, 2, 3 ... falls into one bin and none is empty for want of a count."""
_RIDGE = 0.88
"""How high the highest of several histograms above one another is, 1 being where the next one stands."""
_RIDGE_LOOK: dict[str, Any] = {"facecolor": lighter(BLUE, 0.55), "edgecolor": BLUE, "linewidth": 0.8}


class Activity(NamedTuple):
    """Which share of B samples and N units is active."""

    name: str
    """What counts as active, such as ``code > 0.1``."""
    population: Array
    """The share of units that each sample activates, ``(B,)``."""
    lifetime: Array
    """The share of samples that activate each unit, ``(N,)``."""


class Histogram(NamedTuple):
    """Counts ``(K,)`` between edges ``(K + 1,)``; ``log`` if these are to be seen on a logarithmic axis."""

    counts: Array
    edges: Array
    xlabel: str
    log: bool


def sparsity_panels(activity: Activity, codes: Histogram, threshold: float, *, title: str) -> Figure:
    """Three panels: population sparsity over samples, lifetime sparsity over units, and the distribution of codes."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    samples, units, active = len(activity.population), len(activity.lifetime), f"active ({activity.name})"
    _share_histogram(left, activity.population, of=units, xlabel=f"share of units {active}", ylabel="samples")
    left.set_title("Population sparsity, per sample")
    _share_histogram(middle, activity.lifetime, of=samples, xlabel=f"share of samples {active}", ylabel="units")
    middle.set_title("Lifetime sparsity, per unit")
    _code_histogram(right, codes, threshold)
    right.set_title("Codes, all units and samples")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def lifetime_panels(activities: Sequence[Activity], *, marks: Sequence[float], title: str) -> Figure:
    """For each meaning of active a histogram of lifetime sparsity on a logarithmic axis, units that are never active
    apart at 0; the ``marks`` are dashed lines.
    """
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels = figure.subplots(1, len(activities), sharey=True)
    for axes, activity in zip(panels, activities, strict=True):
        lifetime, samples = activity.lifetime, len(activity.population)
        bins = max(1, math.floor(_BINS_PER_DECADE * math.log10(samples)))
        edges = np.geomspace(0.99 / samples, 1, bins + 1)  # 0.99: no count falls on an edge
        zero = log_positions(axes, "x", np.append(lifetime, edges)).min()
        axes.stairs(np.histogram(lifetime, bins=edges)[0], edges, fill=True, color=BLUE)
        if never := int((lifetime == 0).sum()):
            axes.stairs([never], [zero / 1.26, zero * 1.26], fill=True, color=GREY)
            axes.annotate(f"{never}\nnever", (zero, never), xytext=(0, 3), textcoords="offset points", ha="center")
        for mark in (mark for mark in marks if mark > 1 / samples):
            axes.axvline(mark, color=GREY, linestyle="--", linewidth=1)
        axes.set_xlabel(f"share of samples active ({activity.name}), log")
    panels[0].set_ylabel("units")
    panels[0].yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    panels[0].margins(y=0.2)
    finish(figure, title, columns=1)
    return figure


def class_panels(activities: Sequence[Activity], label: npt.NDArray[np.integer], classes: int, *, title: str) -> Figure:
    """For each meaning of active a histogram of population sparsity for each of the ``classes``, which ``label (B,)``
    counts from 0: one above the other on one axis and one scale, which ends where all but 0.5 % of the samples do.

    Lines are each class's median and the mean of all samples. A class without samples is marked, and a share that is
    the same in all samples is said instead.
    """
    figure = Figure(figsize=(10, 1.7 + 0.4 * classes), layout="constrained")
    panels = figure.subplots(1, len(activities), sharey=True)
    feet = range(classes)[::-1]  # class 0 at the top
    for axes, activity in zip(panels, activities, strict=True):
        axes.tick_params(axis="y", length=0)
        shares, xlabel = activity.population, f"share of units active ({activity.name})"
        if shares.min() == shares.max():
            axes.set(xlim=(0, 1), xlabel=xlabel)
            _say(axes, f"{shares[0]:.3g} in all samples")
            continue
        end = np.quantile(shares, 0.995, method="higher")
        edges = _share_edges(shares[shares <= end], of=len(activity.lifetime))
        counts = [np.histogram(shares[label == c], bins=edges)[0] for c in range(classes)]
        parts = np.stack([count / max((label == c).sum(), 1) for c, count in enumerate(counts)])
        for c, (foot, heights) in enumerate(zip(feet, _RIDGE * parts / parts.max(), strict=True)):
            if not (label == c).any():
                axes.text(edges.mean(), foot + 0.2, "no samples", ha="center", color=GREY, fontsize=9)
                continue
            axes.stairs(foot + heights, edges, baseline=foot, fill=True, **_RIDGE_LOOK)
            median = np.median(shares[label == c])
            axes.plot([median, median], [foot, foot + _RIDGE], "k-", linewidth=1.2, label="median of the class")
        axes.axvline(float(shares.mean()), color=GREY, linestyle="--", linewidth=1, label="mean of all samples")
        beyond = int((shares > edges[-1]).sum())
        axes.set(xlim=(edges[0], edges[-1]), xlabel=f"{xlabel}\n{beyond:,} samples lie beyond" if beyond else xlabel)
    panels[0].set_ylim(-0.1, classes)
    panels[0].set_yticks(feet, [str(c) for c in range(classes)])
    panels[0].set_ylabel("class")
    finish(figure, f"{title}\nheight: share of the class's samples, on the same scale for all classes", columns=2)
    return figure


def threshold_panels(curves: Mapping[str, Array], threshold: float, *, title: str) -> Figure:
    """Mean population sparsity, and inactive and always-on units, ``(T,)`` each, over thresholds ``(T,)`` from 0 up."""
    figure = Figure(figsize=(10, 4.1), layout="constrained")
    panels = (
        ("mean population sparsity", {"mean population sparsity": curves["population_sparsity"]}),
        (
            "units",
            {
                "inactive units (active on < 1 % of samples)": curves["inactive_units"],
                "always-on units (active on > 99 %)": curves["always_on_units"],
            },
        ),
    )
    styles = looks([name for _, lines in panels for name in lines])
    zero = curves["threshold"] == 0
    for axes, (ylabel, lines) in zip(figure.subplots(1, 2), panels, strict=True):
        at = log_positions(axes, "x", curves["threshold"])
        for name, values in lines.items():
            axes.plot(at[~zero], values[~zero], styles[name].line, color=styles[name].colour, label=name)
            axes.plot(at[zero], values[zero], styles[name].marker, color=styles[name].colour, clip_on=False)
        if threshold > 0:
            axes.axvline(threshold, color=GREY, linewidth=1, label=f"the run's threshold, {threshold:g}")
        axes.set(xlabel="threshold t: active is code > t", ylabel=ylabel)
        axes.set_ylim(bottom=0)
    finish(figure, title, columns=2)
    return figure


def sparseness_panels(
    population: Mapping[str, Array], lifetime: Mapping[str, Array], names: Mapping[str, str], *, title: str
) -> Figure:
    """Measures of sparseness in [0, 1] as histograms, over samples ``(B,)`` and units ``(N,)``; NaN where undefined.

    ``names`` of the measures are for the legend.
    """
    figure = Figure(figsize=(10, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, measures in ((left, population), (right, lifetime)):
        if all(np.isnan(values).all() for values in measures.values()):
            _say(axes, "undefined")
            continue
        for key, look in looks(list(names)).items():
            counts, edges = np.histogram(measures[key].clip(0, 1), bins=50, range=(0, 1))
            axes.stairs(counts, edges, color=look.colour, linestyle=look.line, linewidth=1.5, label=names[key])
        axes.set(xlim=(0, 1), xlabel="sparseness")
    left.set(title="Population sparseness, of each sample over units", ylabel="samples")
    right.set(title="Lifetime sparseness, of each unit over samples", ylabel="units")
    finish(figure, title, columns=3)
    return figure


def _share_histogram(axes: Axes, shares: Array, *, of: int, xlabel: str, ylabel: str) -> None:
    counts, edges = np.histogram(shares, bins=_share_edges(shares, of=of))
    axes.stairs(counts, edges, fill=True, color=BLUE)
    mean = float(shares.mean()) if len(shares) else math.nan
    axes.axvline(mean, color=GREY, linestyle="--", linewidth=1, label=f"mean {mean:.3f}")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _share_edges(shares: Array, *, of: int) -> Array:
    """Shares are counts out of ``of``: bins, about 50, hold whole numbers of counts, or aliasing would tear gaps."""
    most = max(1, round(float(shares.max(initial=0)) * of))
    counts_per_bin = math.ceil((most + 1) / 50)
    edges: Array = (np.arange(0, most + 1 + counts_per_bin, counts_per_bin) - 0.5) / of
    return edges


def _code_histogram(axes: Axes, codes: Histogram, threshold: float) -> None:
    axes.set(xlabel=codes.xlabel, ylabel="number of codes (log)")
    if not codes.counts.any():
        _say(axes, "no code != 0")
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


def _say(axes: Axes, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none"}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, bbox=box)
