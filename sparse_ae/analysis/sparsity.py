"""Sparsity of the codes: of each sample over units, of each unit over samples, and as a function of the threshold."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from matplotlib import ticker
from matplotlib.figure import Figure
from torch import Tensor

from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import mean_defined, sparseness, threshold_curves
from sparse_ae.functional import (
    ALWAYS_ON_ABOVE,
    INACTIVE_BELOW,
    always_on_units,
    inactive_units,
    population_sparsity,
)
from sparse_ae.plotting.histograms import Histogram, code_histogram, log_share_histogram, ridges, share_histogram
from sparse_ae.plotting.style import GREY, Array, class_ticks, finish, log_positions, looks, note

_BINS = 100
_MEASURES = {"hoyer": "Hoyer", "treves_rolls": "Treves-Rolls a (low is sparse)", "vinje_gallant": "Vinje-Gallant"}


class Numbers(NamedTuple):
    """Sparsity over all samples. A unit is active where |code| > threshold; ``_nonzero`` counts codes != 0 instead.

    Sparseness is 0/0 for all-zero samples and dead units, which are left out; None if nothing is left.
    """

    samples: int
    """Number of samples."""
    units: int
    """Number of units."""
    threshold: float
    """Threshold above which a code counts as active."""
    code_min: float
    """Smallest code."""
    code_max: float
    """Largest code."""
    population_sparsity: Annotated[float, Label("population sparsity (share of units active in a sample)")]
    """Share of units active in a sample, mean over samples."""
    lifetime_sparsity: float
    """Share of samples that activate a unit, mean over units; equal to ``population_sparsity``."""
    lifetime_sparsity_median: float
    """Share of samples that activate a unit, median over units."""
    l0: Annotated[float, Label("L0 (codes != 0 per sample)")]
    """Codes != 0 per sample, mean."""
    inactive_units: Annotated[int, Label("inactive units (active on < 1 % of samples)")]
    """Number of units active on less than 1 % of the samples."""
    always_on_units: int
    """Number of units active on more than 99 % of the samples."""
    inactive_units_nonzero: int
    """Number of units with a code != 0 on less than 1 % of the samples."""
    always_on_units_nonzero: int
    """Number of units with a code != 0 on more than 99 % of the samples."""
    dead_units: Annotated[int, Label("dead units (code never != 0)")]
    """Number of units whose code is never != 0."""
    all_zero_samples: int
    """Number of samples without a code != 0."""
    hoyer: Annotated[float | None, Label("Hoyer sparseness of a sample's codes (1: one code alone)")]
    """Hoyer sparseness of a sample's codes, mean over samples; high is sparse."""
    treves_rolls: Annotated[float | None, Label("Treves-Rolls a of a sample's codes (low: sparse)")]
    """Treves-Rolls a of a sample's codes, mean over samples; low is sparse."""
    vinje_gallant: float | None
    """Vinje-Gallant sparseness of a sample's codes, mean over samples; high is sparse."""
    hoyer_lifetime: float | None
    """Hoyer sparseness of a unit's codes, mean over units."""
    treves_rolls_lifetime: float | None
    """Treves-Rolls a of a unit's codes, mean over units."""
    vinje_gallant_lifetime: float | None
    """Vinje-Gallant sparseness of a unit's codes, mean over units."""
    classes: dict[str, dict[str, Any]] | None
    """``samples``, ``population_sparsity`` and ``l0`` of each class, the last two None without samples.

    None without classes.
    """
    thresholds: dict[str, list[float]]
    """``population_sparsity``, ``inactive_units`` and ``always_on_units`` at each ``threshold``."""


class Activity(NamedTuple):
    """Shares of B samples and N units that are active."""

    name: str
    """Criterion of activity, such as ``code > 0.1``."""
    population: Array
    """Share of units that each sample activates, ``(B,)``."""
    lifetime: Array
    """Share of samples that activate each unit, ``(N,)``."""

    @property
    def inactive_units(self) -> int:
        """Number of units active on less than 1 % of the samples."""
        return int(inactive_units(torch.from_numpy(self.lifetime)))

    @property
    def always_on_units(self) -> int:
        """Number of units active on more than 99 % of the samples."""
        return int(always_on_units(torch.from_numpy(self.lifetime)))


def overview(subject: Subject) -> Figure:
    """Population and lifetime sparsity at the sample's threshold, and the distribution of all codes."""
    return _overview(subject, _above(subject))


def _overview(subject: Subject, above: Activity) -> Figure:
    codes, dead = subject.codes, int(subject.dead.sum())
    counts, edges = np.histogram(codes.values.numpy(), bins=_BINS, range=codes.range)
    zeros = math.prod(codes.shape) - len(codes.values)
    counts += np.histogram([0], bins=edges)[0] * zeros
    panel = Histogram(counts, edges, xlabel="code", log=False)
    title = f"{_size(codes)}: {_extremes(above, dead)}"
    return _sparsity_panels(above, panel, subject.sample.threshold, title=title)


def analyse(subject: Subject) -> Result:
    """Population sparsity per sample, lifetime sparsity per unit, and the distribution of all codes.

    See ``Numbers`` for the results. Arrays: the values behind the means, NaN where undefined; ``label (B,)``, the
    samples' classes, if they have any.
    """
    codes, threshold = subject.codes, subject.sample.threshold
    (samples, units), (low, high) = codes.shape, codes.range
    above = _above(subject)
    nonzero = Activity("code != 0", *((part.counts.double() / part.shape[1]).numpy() for part in (codes, codes.T)))
    population = sparseness(codes)
    lifetime = {f"{name}_lifetime": values for name, values in sparseness(codes.T).items()}
    curves = threshold_curves(codes, np.union1d(np.geomspace(1e-4, max(1.0, -low, high), 25), [0, threshold]))
    numbers = Numbers(
        samples=samples,
        units=units,
        threshold=threshold,
        code_min=low,
        code_max=high,
        population_sparsity=float(above.population.mean()),
        lifetime_sparsity=float(above.lifetime.mean()),
        lifetime_sparsity_median=float(np.median(above.lifetime)),
        l0=float(nonzero.population.mean() * units),
        inactive_units=above.inactive_units,
        always_on_units=above.always_on_units,
        inactive_units_nonzero=nonzero.inactive_units,
        always_on_units_nonzero=nonzero.always_on_units,
        dead_units=int((nonzero.lifetime == 0).sum()),
        all_zero_samples=int((nonzero.population == 0).sum()),
        **{name: mean_defined(values) for name, values in (population | lifetime).items()},
        classes=None if subject.label is None else _by_class(subject.label, above, nonzero),
        thresholds={name: values.tolist() for name, values in curves.items()},
    )
    size, dead = _size(codes), numbers.dead_units
    counts, edges = np.histogram(codes.values.abs().log10().numpy(), bins=_BINS)
    magnitudes = Histogram(counts, 10**edges, xlabel="|code| of codes != 0, log", log=True)
    undefined = f"undefined for {numbers.all_zero_samples} all-zero samples, {dead} dead units"
    figures = {
        "sparsity": _overview(subject, above),
        "nonzero": _sparsity_panels(nonzero, magnitudes, threshold, title=f"{size}: {_extremes(nonzero, dead)}"),
        "lifetime": _lifetime_panels([above, nonzero], title=f"Lifetime sparsity, {size}"),
        **_of_classes([above, nonzero], subject.label, title=f"Population sparsity by class, {size}"),
        "threshold": _threshold_panels(curves, threshold, title=f"Sparsity as the threshold changes, {size}"),
        "sparseness": _sparseness_panels(population, lifetime, title=f"Sparseness, {size} ({undefined})"),
    }
    arrays = {
        "population_sparsity": above.population,
        "lifetime_sparsity": above.lifetime,
        "population_sparsity_nonzero": nonzero.population,
        "lifetime_sparsity_nonzero": nonzero.lifetime,
        **population,
        **lifetime,
    }
    small = {name: values.astype(np.float32) for name, values in arrays.items()}
    return Result.of(numbers, figures, small | ({} if subject.label is None else {"label": subject.label.numpy()}))


def _above(subject: Subject) -> Activity:
    codes, threshold = subject.codes, subject.sample.threshold
    population = codes.per_sample(lambda z: population_sparsity(z, threshold))
    name = f"{'|code|' if codes.range[0] < 0 else 'code'} > {threshold:g}"
    return Activity(name, population.numpy(), subject.lifetime.numpy())


def _size(codes: Codes) -> str:
    samples, units = codes.shape
    return f"{samples:,} samples, {units} units"


def _extremes(activity: Activity, dead: int) -> str:
    inactive, always_on = activity.inactive_units, activity.always_on_units
    return f"{inactive} inactive (active on < 1 % of samples), {dead} dead, {always_on} always on (> 99 %)"


def _classes(label: Tensor) -> list[int]:
    """Classes from 0 on, absent ones too; only those that occur if less than half of the numbers up to the last do."""
    occur: list[int] = label.unique().tolist()
    return list(range(occur[-1] + 1)) if occur[0] >= 0 and occur[-1] < 2 * len(occur) else occur


def _by_class(label: Tensor, above: Activity, nonzero: Activity) -> dict[str, dict[str, Any]]:
    masks = {str(c): (label == c).numpy() for c in _classes(label)}
    l0 = nonzero.population * len(nonzero.lifetime)
    return {
        name: {
            "samples": int(own.sum()),
            "population_sparsity": mean_defined(above.population[own]),
            "l0": mean_defined(l0[own]),
        }
        for name, own in masks.items()
    }


def _sparsity_panels(activity: Activity, codes: Histogram, threshold: float, *, title: str) -> Figure:
    """Three panels: population sparsity over samples, lifetime sparsity over units, and the distribution of codes."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    samples, units, active = len(activity.population), len(activity.lifetime), f"active ({activity.name})"
    share_histogram(left, activity.population, of=units, xlabel=f"share of units {active}", ylabel="samples")
    left.set_title("Population sparsity, per sample")
    share_histogram(middle, activity.lifetime, of=samples, xlabel=f"share of samples {active}", ylabel="units")
    middle.set_title("Lifetime sparsity, per unit")
    code_histogram(right, codes, threshold)
    right.set_title("Codes, all units and samples")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def _lifetime_panels(activities: Sequence[Activity], *, title: str) -> Figure:
    """A histogram of lifetime sparsity for each criterion of activity, on a logarithmic axis."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels = figure.subplots(1, len(activities), sharey=True)
    for axes, activity in zip(panels, activities, strict=True):
        samples = len(activity.population)
        log_share_histogram(axes, activity.lifetime, of=samples)
        for mark in (mark for mark in (INACTIVE_BELOW, ALWAYS_ON_ABOVE) if mark > 1 / samples):
            axes.axvline(mark, color=GREY, linestyle="--", linewidth=1)
        axes.set_xlabel(f"share of samples active ({activity.name}), log")
    panels[0].set_ylabel("units")
    panels[0].yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    panels[0].margins(y=0.2)
    finish(figure, f"{title}\ndashed: 1 % of samples, below it inactive, and 99 %, above it always on", columns=1)
    return figure


def _of_classes(activities: Sequence[Activity], label: Tensor | None, *, title: str) -> dict[str, Figure]:
    """Histograms of population sparsity by class for each criterion of activity, one above the other.

    Nothing without classes.
    """
    if label is None:
        return {}
    classes = _classes(label)
    count, place = len(classes), torch.searchsorted(torch.tensor(classes), label).numpy()
    ticks = class_ticks(count)
    figure = Figure(figsize=(10, 1.7 + 0.4 * len(ticks)), layout="constrained")
    panels = figure.subplots(1, len(activities), sharey=True)
    for axes, activity in zip(panels, activities, strict=True):
        axes.tick_params(axis="y", length=0)
        xlabel, units = f"share of units active ({activity.name})", len(activity.lifetime)
        ridges(axes, activity.population, place, classes=count, of=units, xlabel=xlabel)
    panels[0].set_ylim(-0.1, count)
    panels[0].set_yticks([count - 1 - tick for tick in ticks], [str(classes[tick]) for tick in ticks])
    panels[0].set_ylabel("class")
    finish(figure, f"{title}\nheight: share of the class's samples, on the same scale for all classes", columns=2)
    return {"classes": figure}


def _threshold_panels(curves: Mapping[str, Array], threshold: float, *, title: str) -> Figure:
    """Mean population sparsity, and inactive and always-on units, ``(T,)`` each, over thresholds ``(T,)`` from 0 up."""
    figure = Figure(figsize=(10, 4.1), layout="constrained")
    units = {
        "inactive units (active on < 1 % of samples)": curves["inactive_units"],
        "always-on units (active on > 99 %)": curves["always_on_units"],
    }
    panels = {"mean population sparsity": {"mean population sparsity": curves["population_sparsity"]}, "units": units}
    styles = looks([name for lines in panels.values() for name in lines])
    zero = curves["threshold"] == 0
    for axes, (ylabel, lines) in zip(figure.subplots(1, 2), panels.items(), strict=True):
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


def _sparseness_panels(population: Mapping[str, Array], lifetime: Mapping[str, Array], *, title: str) -> Figure:
    """Histograms of measures of sparseness in [0, 1], over samples ``(B,)`` and units ``(N,)``; NaN is not counted."""
    figure = Figure(figsize=(10, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, measures in ((left, population), (right, lifetime)):
        if all(np.isnan(values).all() for values in measures.values()):
            note(axes, "undefined")
            continue
        for (name, look), values in zip(looks(list(_MEASURES)).items(), measures.values(), strict=True):
            counts, edges = np.histogram(values.clip(0, 1), bins=50, range=(0, 1))
            axes.stairs(counts, edges, color=look.colour, linestyle=look.line, linewidth=1.5, label=_MEASURES[name])
        axes.set(xlim=(0, 1), xlabel="sparseness")
    left.set(title="Population sparseness, of each sample over units", ylabel="samples")
    right.set(title="Lifetime sparseness, of each unit over samples", ylabel="units")
    finish(figure, title, columns=3)
    return figure
