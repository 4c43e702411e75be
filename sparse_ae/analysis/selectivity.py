"""Which classes units stand for: class means, AUROC against a permutation null, information about the label.

A unit's activity is |z|, which for codes >= 0 is the code itself: of a signed code both ends count as activity.
"""

import math
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt
from scipy.stats import false_discovery_control, rankdata

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.plotting import UnitStrips, auroc_panels, class_heatmap, unit_strips

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Activity = npt.NDArray[np.float32]
Alpha = Annotated[float, Field(gt=0, lt=1)]
Auroc = Annotated[float, Field(ge=0.5, le=1)]

_EXPECTED_PER_CLASS = 10
_PERMUTATIONS_AT_ONCE = 20


class Units(NamedTuple):
    """What is known of each unit, C being the number of classes in the sample."""

    dead: Flags
    """Whether its code is never != 0, ``(N,)``."""
    class_mean: Array
    """Its mean activity on each class, ``(N, C)``."""
    selectivity_index: Array
    """NaN for dead units and with a single class."""
    auroc: Array
    """For the class of which it is largest."""
    least_auroc: Array
    """For the class of which it is smallest."""
    best_class: Indices
    """That class, as a column of ``class_mean``."""
    label_bits: Array
    """I(active; label)."""
    tested: Flags
    """Whether it is active often enough to be tested."""
    p_value: Array
    """Of the AUROC, adjusted for the number of units; 1 for units not tested."""
    chance_auroc: Array
    """The AUROC under shuffled labels, ``(permutations, N)``."""


class Classes(NamedTuple):
    """The classes that the sample has, C of them; others do not appear anywhere."""

    values: list[int]
    member: Array
    """1 where the sample is of the class, ``(B, C)``."""

    @property
    def counts(self) -> Array:
        """Samples of each, ``(C,)``."""
        counts: Array = self.member.sum(axis=0)
        return counts

    @property
    def contrasts(self) -> Array:
        """1 / (n_c (B - n_c)) for the members of class c, ``(B, C)``: AUROC = 1/2 + centred ranks @ contrasts."""
        return self.member / np.maximum(self.counts * (len(self.member) - self.counts), 1)


def classes_of(label: npt.NDArray[np.int64]) -> Classes:
    """The classes among the labels ``(B,)``, in ascending order."""
    values = np.unique(label)
    return Classes(values.tolist(), (label[:, None] == values).astype(float))


def selectivity_index(means: Array) -> Array:
    """(mu_max - mu_rest) / (mu_max + mu_rest) per unit ``(N,)`` from mean activities per class ``(N, C)``, mu_rest
    being the mean over the other classes: 0 for equal means, 1 for activity on one class only.

    NaN without activity and with a single class. Source: Morcos et al., "On the importance of single directions for
    generalization", ICLR 2018.
    """
    largest = means.max(axis=1)
    if means.shape[1] == 1:
        return np.full_like(largest, np.nan)
    rest = (means.sum(axis=1) - largest) / (means.shape[1] - 1)
    both = largest + rest
    index: Array = np.divide(largest - rest, both, out=np.full_like(both, np.nan), where=both > 0)
    return index


def centred_ranks(activity: Activity) -> Array:
    """Ranks of each unit's samples, ties at their mean rank, minus (B + 1) / 2: ``(N, B)`` from ``(B, N)``."""
    ranks: Array = rankdata(activity.T, axis=1)
    ranks -= (len(activity) + 1) / 2
    return ranks


def label_information(active: Flags, classes: Classes) -> Array:
    """I(active; label) in bits per unit, ``(N,)`` from ``(B, N)``: sum_ac p(a, c) log2(p(a, c) / (p(a) p(c)))."""
    on = active.T @ classes.member
    joint = np.stack([on, classes.counts - on]) / len(active)
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=0, keepdims=True)
    ratio = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    bits: Array = (joint * np.log2(ratio)).sum(axis=(0, 2))
    return bits.clip(min=0)


def permutation_null(ranks: Array, classes: Classes, permutations: int) -> npt.NDArray[np.float32]:
    """Each unit's largest (AUROC - 1/2) / s over classes, s the spread of its ranks, with the labels shuffled:
    ``(permutations, N)`` from centred ranks ``(N, B)``.

    One product of the ranks with the contrasts of several shufflings at a time, in float32.
    """
    generator = torch.Generator().manual_seed(0)
    standard = torch.from_numpy(ranks / np.maximum(ranks.std(axis=1, keepdims=True), 1e-12)).float()
    contrasts = torch.from_numpy(classes.contrasts).float()
    largest = []
    for start in range(0, permutations, _PERMUTATIONS_AT_ONCE):
        count = min(_PERMUTATIONS_AT_ONCE, permutations - start)
        shuffled = [contrasts[torch.randperm(len(contrasts), generator=generator)] for _ in range(count)]
        products = standard @ torch.cat(shuffled, dim=1)
        largest.append(products.reshape(len(ranks), count, -1).amax(dim=2).T)
    return torch.cat(largest).numpy()


def pooled_p_values(observed: Array, null: npt.NDArray[np.float32]) -> Array:
    """(1 + #{null >= observed}) / (1 + #null), ``(N,)`` from ``(N,)`` and the null of any shape.

    What differs by float32's rounding counts as equal.
    """
    beyond = null.size - np.searchsorted(np.sort(null, axis=None), observed * (1 - 1e-5))
    return (1 + beyond) / (1 + null.size)


def measure(activity: Activity, classes: Classes, threshold: float, permutations: int) -> Units:
    """Every measure, of activities ``(B, N)`` >= 0."""
    ranks, class_mean = centred_ranks(activity), activity.T @ classes.member / classes.counts
    aurocs, spread = 0.5 + ranks @ classes.contrasts, ranks.std(axis=1)
    auroc = aurocs.max(axis=1)
    null = permutation_null(ranks, classes, permutations)
    tested, p_value = _testable(ranks, classes), np.ones_like(auroc)
    if tested.any():
        observed = (auroc[tested] - 0.5) / spread[tested]
        p_value[tested] = false_discovery_control(pooled_p_values(observed, null[:, tested]))
    return Units(
        dead=(activity == 0).all(axis=0),
        class_mean=class_mean,
        selectivity_index=selectivity_index(class_mean),
        auroc=auroc,
        least_auroc=aurocs.min(axis=1),
        best_class=aurocs.argmax(axis=1),
        label_bits=label_information(activity > threshold, classes),
        tested=tested,
        p_value=p_value,
        chance_auroc=0.5 + null * spread,
    )


def _testable(ranks: Array, classes: Classes) -> Flags:
    """Units away from their commonest activity on so many samples that each class can expect a few, ``(N,)``."""
    away = (ranks != np.median(ranks, axis=1, keepdims=True)).sum(axis=1)
    testable: Flags = away * classes.counts.min() >= _EXPECTED_PER_CLASS * ranks.shape[1]
    return testable & (len(classes.values) > 1)


def analyse(
    subject: Subject,
    *,
    alpha: Alpha,
    least_auroc: Auroc,
    permutations: PositiveInt,
    n_units: PositiveInt,
    n_images: PositiveInt,
) -> Result:
    """Per unit: the class with the largest mean activity and the selectivity index over class means; the class that
    its activity tells best from all others, by AUROC; and what being active (|z| > threshold) tells of the label.
    Selective is what answers to a class. A unit that tells one by its silence is not; those are counted apart.

    A unit is significant if its AUROC for that class is beyond chance, and selective if it is also ``least_auroc`` or
    more: with 10,000 samples nearly every unit is significant, whatever it is good for. A unit that is active on a
    share q of one class and on nothing else has an AUROC of (1 + q) / 2: to be selective it must stand for most of the
    class. The selectivity index asks for silence on the others only.

    Chance is shuffled labels; taking the largest AUROC there too corrects for looking at all classes. P values from a
    unit's own permutations are never below 1 / (1 + permutations), and Benjamini-Hochberg would then call no single
    unit of a thousand significant. But divided by the spread of the unit's ranks, the largest AUROC - 1/2 has the same
    null distribution for every unit, in the limit of many samples: it is that of the largest of C correlated normal
    variables. So the permutations of all units are pooled. That limit is far where a unit is hardly ever active: a
    unit is not tested unless 10 of its active samples can be expected in the rarest class.

    Numbers: ``samples``, ``units``, ``classes`` (those in the sample), ``dead_units`` (code never != 0),
    ``untested_units`` (these among them), ``significant_units``, ``selective_units``, also by the class told best
    (``selective_units_by_class``) and as a share of all (``selective_share``); ``silent_units``, those tested of which
    an AUROC is 1 - ``least_auroc`` or less; means over the units tested, for one
    that is active once seems as selective as can be: ``auroc`` and, with labels shuffled, ``chance_auroc``,
    ``selectivity_index``, ``label_bits`` (mutual information); and the options. With a single class no unit is tested.

    Arrays: of each unit the fields of ``Units``, classes as labels, ``preferred_class`` (-1 for a dead unit) and
    whether it is ``selective``.

    Raises ``ValueError`` for fewer ``permutations`` than 1 / ``alpha``.
    """
    if permutations * alpha < 1:
        given = f"analysis.selectivity.permutations={permutations}: are too few for alpha={alpha:g}"
        raise ValueError(f"{given} (allowed: {math.ceil(1 / alpha)} and more)")
    activity, classes = subject.z.abs().numpy(), classes_of(subject.label.numpy())
    units = measure(activity, classes, subject.sample.threshold, permutations)
    significant = units.p_value <= alpha
    selective = significant & (units.auroc >= least_auroc)
    by_class = np.bincount(units.best_class[selective], minlength=len(classes.values))
    numbers = {
        "samples": len(activity),
        "units": len(selective),
        "classes": classes.values,
        "dead_units": int(units.dead.sum()),
        "untested_units": int((~units.tested).sum()),
        "significant_units": int(significant.sum()),
        "selective_units": int(selective.sum()),
        "selective_share": float(selective.mean()),
        "silent_units": int((units.tested & (units.least_auroc <= 1 - least_auroc)).sum()),
        "selective_units_by_class": dict(zip(map(str, classes.values), by_class.tolist(), strict=True)),
        **_means(units),
        "alpha": alpha,
        "least_auroc": least_auroc,
        "permutations": permutations,
    }
    panels = auroc_panels(
        units.auroc[units.tested],
        units.chance_auroc[:, units.tested],
        by_class,
        classes.values,
        of=len(selective),
        least_auroc=least_auroc,
        title=f"{selective.sum()} of {len(selective)} units are selective for a class: AUROC at least {least_auroc:g}, "
        f"false discovery rate {alpha:g}",
    )
    figures = {
        "class_means": _heatmap(units, classes),
        "units": _extremes(subject, activity, units, classes, n_units, n_images),
        "auroc": panels,
    }
    values = np.array(classes.values)
    arrays = {name: value for name, value in units._asdict().items() if name != "chance_auroc"} | {
        "classes": values,
        "preferred_class": np.where(units.dead, -1, values[units.class_mean.argmax(axis=1)]),
        "best_class": values[units.best_class],
        "selective": selective,
    }
    return Result(numbers, figures, arrays)


def _means(units: Units) -> dict[str, float | None]:
    values = {
        "auroc": units.auroc,
        "chance_auroc": units.chance_auroc,
        "selectivity_index": units.selectivity_index,
        "label_bits": units.label_bits,
    }
    return {name: float(v[..., units.tested].mean()) if units.tested.any() else None for name, v in values.items()}


def _heatmap(units: Units, classes: Classes) -> Figure:
    order = np.lexsort((-units.selectivity_index, units.class_mean.argmax(axis=1), units.dead))
    title = f"Mean activity per class: {len(order)} units by the class they prefer, {units.dead.sum()} dead"
    return class_heatmap(units.class_mean[order], classes.values, title=title)


def _extremes(
    subject: Subject, activity: Activity, units: Units, classes: Classes, n_units: int, n_images: int
) -> Figure:
    """The most and the least selective of the units tested."""
    ranking = np.argsort(-units.auroc, kind="stable")
    ranking = ranking[units.tested[ranking]]
    groups = {"Most selective units": ranking[:n_units], "Least selective units": ranking[::-1][:n_units]}
    strips = []
    for name, chosen in groups.items():
        top = np.argsort(-activity[:, chosen], axis=0, kind="stable")[:n_images].T
        images = subject.images(subject.x[top.flatten()])
        images = images.reshape(*top.shape, *images.shape[1:])
        images[activity[top, chosen[:, None]] == 0] = np.nan
        labels = [f"unit {i}\n{classes.values[units.best_class[i]]}: {units.auroc[i]:.3f}" for i in chosen]
        strips.append(UnitStrips(name, subject.images(subject.directions[chosen.copy()]), images, labels))
    title = "What units add, and the test images that activate them most; below each unit, best class: AUROC"
    return unit_strips(strips, title=title)
