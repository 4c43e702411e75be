"""Selectivity of units for classes: class means, AUROC against a permutation null, information about the label.

A unit's activity is |z|, which for codes >= 0 is the code itself: both ends of a signed code count as activity.
"""

import math
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt
from scipy.stats import false_discovery_control

from sparse_ae.analysis import token_selectivity
from sparse_ae.analysis.base import Label, Result, Subject, classes_needed
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import (
    Classes,
    away_from_median,
    classes_of,
    label_information,
    mean_defined,
    permutation_null,
    pooled_p_values,
    ranks_above_zero,
    spread,
)
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import BLUE, GREY, Array, class_ticks, finish, note

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Alpha = Annotated[float, Field(gt=0, lt=1)]
Auroc = Annotated[float, Field(ge=0.5, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]

_EXPECTED_PER_CLASS = 10
_BINS = 50
_UNTESTED = "no unit is active often enough"


class Units(NamedTuple):
    """Measures of each of N units, for the C classes of the sample."""

    dead: Flags
    """True for a unit whose code is never != 0, ``(N,)``."""
    class_mean: Array
    """Mean activity on each class, ``(N, C)``."""
    selectivity_index: Array
    """Selectivity index ``(N,)``; NaN for dead units and with a single class."""
    auroc: Array
    """AUROC for the class of which it is largest, ``(N,)``."""
    least_auroc: Array
    """AUROC for the class of which it is smallest, ``(N,)``."""
    best_class: Indices
    """Class with the largest AUROC, as a column of ``class_mean``, ``(N,)``."""
    label_bits: Array
    """I(active; label), ``(N,)``."""
    tested: Flags
    """True for a unit that is active often enough to be tested, ``(N,)``."""
    p_value: Array
    """P value of the AUROC, adjusted for the number of units, ``(N,)``; 1 for units not tested."""
    chance_auroc: Array
    """AUROC under shuffled labels of the units tested, ``(permutations, n)``."""


class Numbers(NamedTuple):
    """Counts of units, and means over the units tested; a unit that is active once seems as selective as can be."""

    samples: int
    """Number of samples."""
    units: int
    """Number of units."""
    classes: list[int]
    """Classes in the sample."""
    dead_units: int
    """Number of units whose code is never != 0."""
    untested_units: int
    """Number of units not active often enough to be tested, dead ones among them."""
    significant_units: int
    """Number of units whose AUROC for a class is beyond chance."""
    selective_units: Annotated[int, Label("units selective for a class")]
    """Number of significant units with an AUROC of ``least_auroc`` or more."""
    selective_share: Annotated[float, Label("selective units (share of all)")]
    """Share of all units that is selective."""
    silent_units: int
    """Number of units tested that tell a class by silence: an AUROC of 1 - ``least_auroc`` or less."""
    selective_units_by_class: dict[str, int]
    """Number of selective units by the class told best."""
    auroc: Annotated[float | None, Label("mean AUROC for the class told best")]
    """AUROC for the class told best, mean; None if no unit was tested."""
    chance_auroc: float | None
    """AUROC for the class told best with labels shuffled, mean."""
    selectivity_index: float | None
    """Selectivity index, mean."""
    label_bits: Annotated[float | None, Label("mean bits a unit tells of the label")]
    """Mutual information of being active and the label, in bits, mean."""
    alpha: float
    """The option."""
    least_auroc: float
    """The option."""
    permutations: int
    """The option."""


def selectivity_index(means: Array) -> Array:
    """(mu_max - mu_rest) / (mu_max + mu_rest) per unit ``(N,)`` from mean activities per class ``(N, C)``.

    mu_rest is the mean over the other classes: 0 for equal means, 1 for activity on one class only. NaN without
    activity and with a single class. Source: Morcos et al., "On the importance of single directions for
    generalization", ICLR 2018.
    """
    largest = means.max(axis=1)
    if means.shape[1] == 1:
        return np.full_like(largest, np.nan)
    rest = (means.sum(axis=1) - largest) / (means.shape[1] - 1)
    both = largest + rest
    index: Array = np.divide(largest - rest, both, out=np.full_like(both, np.nan), where=both > 0)
    return index


def measure(codes: Codes, classes: Classes, threshold: float, permutations: int) -> Units:
    """Measure all units."""
    activity, ranks = codes.T.sizes, ranks_above_zero(codes)
    class_mean = activity @ classes.member / classes.counts
    aurocs = 0.5 + ranks @ classes.contrasts
    auroc = aurocs.max(axis=1)
    tested, p_value = _testable(away_from_median(ranks), classes), np.ones_like(auroc)
    own = ranks[tested]
    spreads, null = spread(own), permutation_null(own, classes, permutations)
    if tested.any():
        p_value[tested] = false_discovery_control(pooled_p_values((auroc[tested] - 0.5) / spreads, null))
    return Units(
        dead=codes.T.counts.numpy() == 0,
        class_mean=class_mean,
        selectivity_index=selectivity_index(class_mean),
        auroc=auroc,
        least_auroc=aurocs.min(axis=1),
        best_class=aurocs.argmax(axis=1),
        label_bits=label_information(activity > threshold, classes),
        tested=tested,
        p_value=p_value,
        chance_auroc=0.5 + null * spreads,
    )


def _testable(away: Indices, classes: Classes) -> Flags:
    """True for units ``away (N,)`` from their commonest activity so often that each class can expect a few."""
    testable: Flags = away * classes.counts.min() >= _EXPECTED_PER_CLASS * len(classes.member)
    return testable & (len(classes.values) > 1)


def analyse(
    subject: Subject,
    *,
    alpha: Alpha = 0.05,
    least_auroc: Auroc = 0.8,
    permutations: PositiveInt = 200,
    n_units: PositiveInt = 8,
    n_images: PositiveInt = 8,
    least_share: Share = 0.5,
    n_tokens: PositiveInt = 8,
) -> Result:
    """Selectivity of each unit, for the class that its activity tells best from all others, by AUROC.

    A unit is significant if that AUROC is beyond chance, and selective if it is also ``least_auroc`` or more: with
    10,000 samples nearly every unit is significant, however useless. A unit that is active on a share q of one class
    and on nothing else has an AUROC of (1 + q) / 2: to be selective it must stand for most of the class. The
    selectivity index asks for silence on the others only. A unit that tells a class by its silence is not selective.

    Chance is shuffled labels; taking the largest AUROC there too corrects for looking at all classes. P values from a
    unit's own permutations are never below 1 / (1 + permutations), and Benjamini-Hochberg would then call no single
    unit of a thousand significant. But divided by the spread of the unit's ranks, the largest AUROC - 1/2 has the same
    null distribution for every unit, in the limit of many samples: that of the largest of C correlated normal
    variables. Hence the permutations of all units are pooled. The limit is far for a unit that is hardly ever active:
    a unit is tested only if 10 of its active samples can be expected in the rarest class. With a single class no unit
    is tested.

    Arrays: the fields of ``Units``, with classes as labels; ``preferred_class``, with the largest mean activity (-1
    for a dead unit); ``selective``, true for selective units.

    Of text without classes, the tokens are the classes, of which there are too many for all that: see
    ``token_selectivity``. Raises ``ConfigError`` for fewer ``permutations`` than 1 / ``alpha``, and for data with
    neither classes nor text.
    """
    if subject.label is None and subject.sample.text is not None:
        return token_selectivity.analyse(
            subject, subject.sample.text, alpha=alpha, least_share=least_share, n_units=n_units, n_tokens=n_tokens
        )
    label = classes_needed(subject.label, "selectivity")
    if permutations * alpha < 1:
        reason, least = f"too few for alpha={alpha:g}", math.ceil(1 / alpha)
        raise ConfigError("permutations", permutations, reason, f"{least} or more")
    classes = classes_of(label.numpy())
    units = measure(subject.codes, classes, subject.sample.threshold, permutations)
    significant, tested = units.p_value <= alpha, units.tested
    selective = significant & (units.auroc >= least_auroc)
    by_class = np.bincount(units.best_class[selective], minlength=len(classes.values))
    numbers = Numbers(
        samples=len(label),
        units=len(selective),
        classes=classes.values,
        dead_units=int(units.dead.sum()),
        untested_units=int((~tested).sum()),
        significant_units=int(significant.sum()),
        selective_units=int(selective.sum()),
        selective_share=float(selective.mean()),
        silent_units=int((tested & (units.least_auroc <= 1 - least_auroc)).sum()),
        selective_units_by_class=dict(zip(map(str, classes.values), by_class.tolist(), strict=True)),
        auroc=mean_defined(units.auroc[tested]),
        chance_auroc=mean_defined(units.chance_auroc),
        selectivity_index=mean_defined(units.selectivity_index[tested]),
        label_bits=mean_defined(units.label_bits[tested]),
        alpha=alpha,
        least_auroc=least_auroc,
        permutations=permutations,
    )
    figures = {
        "class_means": _heatmap(units, classes),
        "units": _extremes(subject, units, classes, n_units, n_images),
        "auroc": _auroc_panels(units, by_class, numbers),
    }
    values = np.array(classes.values)
    arrays = {name: value for name, value in units._asdict().items() if name != "chance_auroc"} | {
        "classes": values,
        "preferred_class": np.where(units.dead, -1, values[units.class_mean.argmax(axis=1)]),
        "best_class": values[units.best_class],
        "selective": selective,
    }
    return Result.of(numbers, figures, arrays)


def _heatmap(units: Units, classes: Classes) -> Figure:
    """Class means as a map: units to the right by the class they prefer, classes downwards.

    Each unit is relative to the class where it is largest, and grey where it is dead.
    """
    order = np.lexsort((-units.selectivity_index, units.class_mean.argmax(axis=1), units.dead))
    means = units.class_mean[order]
    largest = means.max(axis=1, keepdims=True)
    relative = np.divide(means, largest, out=np.full_like(means, np.nan), where=largest > 0)
    ticks = class_ticks(len(classes.values))
    figure = Figure(figsize=(11, 1.6 + 0.28 * len(ticks)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#bbbbbb")
    extent = (0, len(means), len(classes.values) - 0.5, -0.5)
    drawn = axes.imshow(relative.T, cmap="viridis", clim=(0, 1), aspect="auto", interpolation="nearest", extent=extent)
    axes.set_yticks(ticks, [str(classes.values[tick]) for tick in ticks])
    dead = " (grey: dead)" if np.isnan(relative).any() else ""
    axes.set(xlabel=f"units, by preferred class and selectivity{dead}", ylabel="class")
    figure.colorbar(drawn, ax=axes, label="mean activity,\nshare of the unit's largest", pad=0.01)
    figure.suptitle(f"Mean activity per class: {len(order)} units by the class they prefer, {units.dead.sum()} dead")
    return figure


def _extremes(subject: Subject, units: Units, classes: Classes, n_units: int, n_images: int) -> Figure:
    """The most and the least selective of the units tested, each with the samples that activate it most."""
    ranking = np.argsort(-units.auroc, kind="stable")
    ranking = ranking[units.tested[ranking]]
    groups = {"Most selective units": ranking[:n_units], "Least selective units": ranking[::-1][:n_units].copy()}
    blocks = []
    for name, chosen in groups.items():
        activity = subject.codes.units(torch.from_numpy(chosen)).abs().T.numpy()
        top = np.argsort(-activity, axis=1, kind="stable")[:, :n_images]
        driving = subject.images(subject.x[top.flatten()])
        driving = driving.reshape(*top.shape, *driving.shape[1:])
        driving[np.take_along_axis(activity, top, axis=1) == 0] = np.nan
        pictures = np.concatenate([subject.images(subject.directions[chosen])[:, None], driving], axis=1)
        labels = [f"unit {i}\n{classes.values[units.best_class[i]]}: {units.auroc[i]:.3f}" for i in chosen]
        blocks.append(Block(pictures, 1, rows=labels, name=name, empty=_UNTESTED))
    title = f"What units add, and the test {subject.noun}s that activate them most; beside each unit, best class: AUROC"
    return mosaic(blocks, title=title, view=subject.view)


def _auroc_panels(units: Units, by_class: Indices, numbers: Numbers) -> Figure:
    """Two panels: AUROCs of the units tested beside those under shuffled labels, and selective units by class."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.linspace(0.5, 1, _BINS + 1)
    counts, _ = np.histogram(units.auroc[units.tested], edges)
    by_chance = np.histogram(units.chance_auroc, edges)[0] / max(len(units.chance_auroc), 1)
    bound = f"{numbers.least_auroc:g}"
    left.stairs(counts, edges, fill=True, color=BLUE, label="units tested")
    left.stairs(by_chance, edges, color=GREY, linewidth=1.5, label="expected with shuffled labels")
    left.axvline(numbers.least_auroc, color="black", linestyle="--", linewidth=1, label=f"selective: {bound} or more")
    if not units.tested.any():
        note(left, _UNTESTED)
    left.set(title="How well units tell their best class", xlabel="AUROC of that class against the others")
    left.set(ylabel="units")
    percent = 100 / max(numbers.units, 1)
    bars, ticks = right.bar(range(len(by_class)), percent * by_class, color=BLUE), class_ticks(len(by_class))
    right.set_xticks(ticks, [str(numbers.classes[tick]) for tick in ticks])
    if ticks.step == 1:
        right.bar_label(bars, [str(count) for count in by_class.tolist()], fontsize=9, color=GREY, padding=2)
    right.set(title="Selective units by class", xlabel="class", ylabel="% of all units")
    right.set_ylim(0, 1.1 * percent * max(by_class.max(), 1))
    if not by_class.any():
        note(right, "no unit is selective")
    title = (
        f"{numbers.selective_units} of {numbers.units} units are selective for a class: AUROC at least {bound}, "
        f"false discovery rate {numbers.alpha:g}"
    )
    finish(figure, title, columns=3)
    return figure
