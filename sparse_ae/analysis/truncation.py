"""Truncation: reconstructions from some of each sample's codes, the others set to 0."""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.ablation import ablate
from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import log_spaced, ratio, sample_errors, stratified, units_needed, variances
from sparse_ae.coders.omp import SparseCodes
from sparse_ae.functional import blockwise
from sparse_ae.plotting.curves import curves_over_units
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import BLUE, GREY, Array, class_ticks, finish, lighter

_STEPS, _STRIP_STEPS = 24, 8
"""Numbers of codes in the curves, and in the strip of pictures."""
_MOST_CODES = 2**23
"""Largest number of codes != 0 that are put into an order."""
_PERCENT = (90, 95, 99)
_SHADES = (0.65, 0.35, 0.0)
_LARGEST = "largest first"


class Numbers(NamedTuple):
    """Errors, and numbers of codes needed; None where all codes together explain nothing."""

    samples: int
    """Number of samples, stratified by class."""
    mse_full: float
    """MSE per value with all codes."""
    fvu_full: Annotated[float | None, Label("FVU with all codes (share of variance)")]
    """FVU with all codes."""
    fvu_empty: float | None
    """FVU with no code."""
    units_for_90_percent: Annotated[int | None, Label("codes for 90 % of what all explain")]
    """Number of largest codes from which on 90 % of the variance that all codes explain is explained."""
    units_for_95_percent: Annotated[int | None, Label("codes for 95 % of what all explain")]
    """Number of largest codes from which on 95 % of the variance that all codes explain is explained."""
    units_for_99_percent: Annotated[int | None, Label("codes for 99 % of what all explain")]
    """Number of largest codes from which on 99 % of the variance that all codes explain is explained."""
    units_for_95_percent_consistency: Annotated[
        int | None, Label("codes for the same nearest class on 95 % of samples")
    ]
    """Number of largest codes from which on class consistency is at least 95 %; None without classes."""
    by_order: dict[str, dict[str, int | None]]
    """Numbers of codes needed for each share, in every order of codes."""
    by_class: dict[str, dict[str, int | None]] | None
    """Numbers of codes needed for each share, largest first, in every class; None without classes."""


def analyse(
    subject: Subject, *, n_samples: PositiveInt = 1000, random_draws: PositiveInt = 3, n_images: PositiveInt = 5
) -> Result:
    """Errors with the first m of each sample's codes != 0 kept, in several orders.

    Orders are by size |z|, from either end, by the importance of their units, and random (mean of ``random_draws``).
    Over m: MSE; FVU, over the variance around the mean training sample; class consistency, the share of samples whose
    reconstruction has the same class mean nearest to it as their full reconstruction, for data that have classes. Class
    means are of all samples. A decoder that is not affine may do worse with a few codes than with none; a sigmoid's
    codes are all != 0, and of wide ones fewer samples are taken: 2^23 codes != 0 in all.

    Arrays: ``kept``, the values of m; ``mse`` and ``fvu`` ``(orders, K)``; ``orders``, their names; with classes,
    ``consistency (orders, K)``.
    """
    index = stratified(subject.strata, min(n_samples, _most_samples(subject.codes)))
    codes, variance = subject.codes.take(index).compact(), variances(subject, index)
    units = subject.codes.shape[1]
    kept = sorted({*log_spaced(codes.value.shape[1], _STEPS), units})
    generator = torch.Generator().manual_seed(0)
    keys = {
        _LARGEST: [codes.value.abs()],
        "smallest first": [-codes.value.abs()],
        "most important unit first": [ablate(subject).importance[codes.atom]],
        "random": [_random(codes.atom, units, generator) for _ in range(random_draws)],
    }
    means = None if subject.label is None else class_means(subject.x, subject.label)
    truncations = {
        name: [Truncation(subject, index, in_order(codes, key)) for key in own] for name, own in keys.items()
    }
    curves = {name: _mean([each.curve(kept, means) for each in own]) for name, own in truncations.items()}

    (by_size,), largest = truncations[_LARGEST], curves[_LARGEST]
    by_order = {name: _needed(own, kept, curves[name].errors, variance) for name, own in truncations.items()}
    numbers = Numbers(
        samples=len(index),
        mse_full=float(largest.errors[-1].mean()) / subject.x.shape[1],
        fvu_full=ratio(largest.errors[-1].sum(), variance.sum()),
        fvu_empty=ratio(largest.errors[0].sum(), variance.sum()),
        **{f"units_for_{share}": units for share, units in by_order[_LARGEST].items()},
        units_for_95_percent_consistency=None if means is None else _consistent(by_size, kept, largest, means),
        by_order=by_order,
        by_class=None if subject.label is None else _by_class(by_size, kept, largest, variance, subject.label[index]),
    )
    errors = torch.stack([curve.errors.sum(dim=1) for curve in curves.values()])
    arrays = {
        "kept": np.array(kept),
        "orders": np.array(list(curves)),
        "mse": (errors / (len(index) * subject.x.shape[1])).numpy(),
        "fvu": (errors / torch.where(variance.sum() > 0, variance.sum(), torch.nan)).numpy(),
    }
    if means is not None:
        arrays["consistency"] = torch.stack([curve.consistency for curve in curves.values()]).numpy()
    title = f"Reconstructions from some of the codes of {len(index):,} test {subject.noun}s, {units:,} units"
    figures = {"truncation": _panels(arrays, list(curves), numbers, title=title, noun=subject.noun)}
    if subject.has_pictures:
        figures["strip"] = _strip(subject, stratified(subject.strata, n_images))
    if numbers.by_class is not None:
        figures["classes"] = _class_bars({"all": by_order[_LARGEST], **numbers.by_class}, noun=subject.noun)
    return Result.of(numbers, figures, arrays)


def in_order(codes: SparseCodes, key: Tensor) -> SparseCodes:
    """Codes of each sample by their ``key (B, k)``, the largest first, ties as they are; codes that are 0 come last."""
    order = torch.where(codes.value != 0, key, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return SparseCodes(*(part.gather(1, order) for part in codes))


def _most_samples(codes: Codes) -> int:
    """Number of samples whose codes in every order fit into memory."""
    return max(_MOST_CODES // max(int(codes.counts.max()), 1), 1)


def _random(atom: Tensor, units: int, generator: torch.Generator) -> Tensor:
    """Random key of each code, ``(B, k)``: those of its sample and unit, whatever the other codes are."""
    return blockwise(
        len(atom),
        units,
        lambda part: torch.rand(part.stop - part.start, units, generator=generator).gather(1, atom[part]),
    )


class Curve(NamedTuple):
    """Errors and class consistency with each of K numbers of codes kept."""

    errors: Tensor
    """Squared error of each sample, ``(K, B)``."""
    consistency: Tensor
    """Share of samples nearest to the same class mean as with all codes, ``(K,)``; empty without classes."""


class Truncation(NamedTuple):
    """Codes of some samples in an order."""

    subject: Subject
    samples: Tensor
    """Indices of the samples ``(B,)``."""
    codes: SparseCodes
    """Their codes, the first in the order first, ``(B, k)``."""

    def of(self, own: Tensor) -> "Truncation":
        """Restrict to some of the samples."""
        return self._replace(samples=self.samples[own], codes=SparseCodes(*(part[own] for part in self.codes)))

    def decoded(self, m: int) -> Tensor:
        """Reconstructions from the first m codes, ``(B, D)``."""
        first = SparseCodes(*(part[:, :m] for part in self.codes))
        return self.subject.decode(Codes.from_compact(first, self.subject.codes.shape[1]))

    def errors(self, kept: Sequence[int]) -> Tensor:
        """Squared errors ``(K, B)`` with each number of codes."""
        x = self.subject.x[self.samples]
        return torch.stack([sample_errors(self.decoded(m), x) for m in kept])

    def curve(self, kept: Sequence[int], means: Tensor | None) -> "Curve":
        """Errors with each number of codes, and consistency with the class ``means (C, D)``."""
        if means is None:
            return Curve(self.errors(kept), torch.empty(0))
        x, full = self.subject.x[self.samples], _nearest(self.subject.x_hat[self.samples], means)
        errors, consistent = [], []
        for m in kept:
            x_hat = self.decoded(m)
            errors.append(sample_errors(x_hat, x))
            consistent.append((_nearest(x_hat, means) == full).double().mean())
        return Curve(torch.stack(errors), torch.stack(consistent))


def _mean(curves: Sequence[Curve]) -> Curve:
    return Curve(*(torch.stack(values).mean(dim=0) for values in zip(*curves, strict=True)))


def class_means(x: Tensor, label: Tensor) -> Tensor:
    """Mean sample of each class that occurs, ``(C, D)``."""
    return torch.stack([x[label == c].mean(dim=0) for c in label.unique()])


def _nearest(x: Tensor, means: Tensor) -> Tensor:
    """Index of the nearest of ``means (C, D)`` to each sample ``(B, D)``, ``(B,)``."""
    return torch.cdist(x, means).argmin(dim=1)


def _consistent(truncation: Truncation, kept: Sequence[int], curve: Curve, means: Tensor) -> int | None:
    """Number of codes from which on the consistency of ``truncation``, known with each of ``kept``, is 95 %."""

    def inconsistent(numbers: Sequence[int]) -> Tensor:
        return 1 - truncation.curve(numbers, means).consistency

    return units_needed(kept, 1 - curve.consistency, 1, 0.95, inconsistent)


def _by_class(
    truncation: Truncation, kept: Sequence[int], curve: Curve, variance: Tensor, label: Tensor
) -> dict[str, dict[str, int | None]]:
    """Number of codes for each share in every class of ``label (B,)``, from the ``variance (B,)`` of its samples."""
    in_class = {str(c): label == c for c in label.unique().tolist()}
    return {c: _needed([truncation.of(own)], kept, curve.errors[:, own], variance[own]) for c, own in in_class.items()}


def _needed(
    truncations: Sequence[Truncation], kept: Sequence[int], errors: Tensor, variance: Tensor
) -> dict[str, int | None]:
    """Number of codes for each share, from the squared errors ``(K, B)``, a mean over ``truncations``."""

    def errors_with(numbers: Sequence[int]) -> Tensor:
        return torch.stack([own.errors(numbers).sum(dim=1) for own in truncations]).mean(dim=0)

    return {
        f"{p}_percent": units_needed(kept, errors.sum(dim=1), variance.sum(), p / 100, errors_with) for p in _PERCENT
    }


def _panels(arrays: Mapping[str, Array], orders: Sequence[str], numbers: Numbers, *, title: str, noun: str) -> Figure:
    """FVU, and where there are classes their consistency, by order over the numbers of codes kept.

    The codes needed, largest first, are ringed.
    """
    names = [name for name in ("fvu", "consistency") if name in arrays]
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, *others = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip((left, *others), names, strict=True):
        x = curves_over_units(axes, arrays["kept"], dict(zip(orders, arrays[name], strict=True)))
        axes.set_xlabel(f"codes kept in each {noun}, m")
    left.axhline(1, color=GREY, linewidth=1)
    for p, units, marker in zip(_PERCENT, numbers.by_order[_LARGEST].values(), "osD", strict=True):
        if units is not None and numbers.fvu_full is not None:
            at, value = np.interp(units, arrays["kept"], x), 1 - p / 100 * (1 - numbers.fvu_full)
            ring = {"color": "black", "fillstyle": "none", "linestyle": "", "marker": marker, "markersize": 8}
            left.plot([at], [value], label=f"{p} % of what all explain: {units} codes", **ring)
    left.set(title="Reconstruction", ylabel=f"FVU (1: the mean training {noun})")
    for axes in others:
        axes.set(title="Class consistency", ylabel="share with the same class mean nearest")
    finish(figure, title, columns=4)
    return figure


def _class_bars(needed: Mapping[str, Mapping[str, int | None]], *, noun: str) -> Figure:
    """A bar for each share of the variance by class: the number of codes needed, n/a where None."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots()
    width, ticks = 0.8 / len(_PERCENT), class_ticks(len(needed))
    for i, (percent, shade) in enumerate(zip(_PERCENT, _SHADES, strict=True)):
        values = [list(units.values())[i] for units in needed.values()]
        at = np.arange(len(values)) + (i - (len(_PERCENT) - 1) / 2) * width
        colour = lighter(BLUE, shade)
        bars = axes.bar(at, [value or 0 for value in values], 0.94 * width, color=colour, label=f"{percent} %")
        if ticks.step == 1:
            texts = ["n/a" if value is None else str(value) for value in values]
            axes.bar_label(bars, texts, fontsize=7.5, color=GREY)
    axes.set_xticks(ticks, [list(needed)[place] for place in ticks])
    axes.set(xlabel="class", ylabel="largest codes kept")
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    title = f"Codes needed for a share of the variance that all codes of the {noun} explain, largest first"
    finish(figure, title, columns=3)
    axes.grid(visible=False, axis="x")
    return figure


def _strip(subject: Subject, index: Tensor) -> Figure:
    """A row for each sample: the input, and its reconstructions from ever more of its largest codes."""
    codes = subject.codes.take(index).compact()
    largest = Truncation(subject, index, in_order(codes, codes.value.abs()))
    kept = log_spaced(codes.value.shape[1], _STRIP_STEPS)
    rows = [subject.x[index], *(largest.decoded(m) for m in kept)]
    block = Block(
        np.stack([subject.images(part) for part in rows], axis=1),
        rows=[] if subject.label is None else [f"class {c}" for c in subject.label[index].tolist()],
        columns=["input", *(f"m = {m}" for m in kept[:-1]), "all codes"],
    )
    title = f"Reconstructions from the m largest codes of each {subject.noun}"
    return mosaic([block], title=title, view=subject.view)
