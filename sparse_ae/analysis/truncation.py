"""Truncation: reconstructions from some of each image's codes, the others set to 0."""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.ablation import ablate
from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.statistics import log_spaced, ratio, sample_errors, stratified, units_needed, variances
from sparse_ae.plotting.curves import curves_over_units
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import BLUE, GREY, Array, finish, lighter

_STEPS, _STRIP_STEPS = 24, 8
"""Numbers of codes in the curves, and in the strip of images."""
_PERCENT = (90, 95, 99)
_SHADES = (0.65, 0.35, 0.0)
_LARGEST = "largest first"


class Numbers(NamedTuple):
    """Errors, and numbers of codes needed; None where all codes together explain nothing."""

    samples: int
    """Number of samples, stratified by class."""
    mse_full: float
    """MSE per pixel with all codes."""
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
    units_for_95_percent_consistency: Annotated[int | None, Label("codes for the same nearest class on 95 % of images")]
    """Number of largest codes from which on class consistency is at least 95 %."""
    by_order: dict[str, dict[str, int | None]]
    """Numbers of codes needed for each share, in every order of codes."""
    by_class: dict[str, dict[str, int | None]]
    """Numbers of codes needed for each share, largest first, in every class."""


def analyse(
    subject: Subject, *, n_samples: PositiveInt = 1000, random_draws: PositiveInt = 3, n_images: PositiveInt = 5
) -> Result:
    """Errors with the first m of each sample's codes != 0 kept, in several orders.

    Orders are by size |z|, from either end, by the importance of their units, and random (mean of ``random_draws``).
    Over m: MSE; FVU, over the variance around the mean training image; class consistency, the share of samples whose
    reconstruction has the same class mean nearest to it as their full reconstruction. Class means are of all images. A
    decoder that is not affine may do worse with a few codes than with none; a sigmoid's codes are all != 0.

    Arrays: ``kept``, the values of m; ``mse``, ``fvu`` and ``consistency`` ``(orders, K)``; ``orders``, their names.
    """
    index = stratified(subject.label, n_samples)
    z, label, variance = subject.z[index], subject.label[index], variances(subject, index)
    kept = sorted({*log_spaced(int((z != 0).sum(dim=1).max()), _STEPS), z.shape[1]})
    generator = torch.Generator().manual_seed(0)
    keys = {
        _LARGEST: [z.abs()],
        "smallest first": [-z.abs()],
        "most important unit first": [ablate(subject).importance.expand_as(z)],
        "random": [torch.rand(z.shape, generator=generator) for _ in range(random_draws)],
    }
    truncations = {name: [Truncation(subject, index, places(z, key)) for key in own] for name, own in keys.items()}
    curves = {name: _mean([truncation.curve(kept) for truncation in own]) for name, own in truncations.items()}

    (by_size,), largest = truncations[_LARGEST], curves[_LARGEST]
    by_order = {name: _needed(own, kept, curves[name].errors, variance) for name, own in truncations.items()}
    in_class = {str(c): label == c for c in label.unique().tolist()}
    by_class = {
        c: _needed([by_size.of(own)], kept, largest.errors[:, own], variance[own]) for c, own in in_class.items()
    }
    numbers = Numbers(
        samples=len(index),
        mse_full=float(largest.errors[-1].mean()) / subject.x.shape[1],
        fvu_full=ratio(largest.errors[-1].sum(), variance.sum()),
        fvu_empty=ratio(largest.errors[0].sum(), variance.sum()),
        **{f"units_for_{share}": units for share, units in by_order[_LARGEST].items()},
        units_for_95_percent_consistency=units_needed(
            kept, 1 - largest.consistency, 1, 0.95, lambda numbers: 1 - by_size.curve(numbers).consistency
        ),
        by_order=by_order,
        by_class=by_class,
    )
    errors = torch.stack([curve.errors.sum(dim=1) for curve in curves.values()])
    arrays = {
        "kept": np.array(kept),
        "orders": np.array(list(curves)),
        "mse": (errors / (len(index) * subject.x.shape[1])).numpy(),
        "fvu": (errors / torch.where(variance.sum() > 0, variance.sum(), torch.nan)).numpy(),
        "consistency": torch.stack([curve.consistency for curve in curves.values()]).numpy(),
    }
    title = f"Reconstructions from some of the codes of {len(index):,} test images, {z.shape[1]:,} units"
    figures = {
        "truncation": _panels(arrays, list(curves), numbers, title=title),
        "classes": _class_bars({"all": by_order[_LARGEST], **by_class}),
        "strip": _strip(subject, stratified(subject.label, n_images)),
    }
    return Result.of(numbers, figures, arrays)


def places(z: Tensor, key: Tensor) -> Tensor:
    """Rank of each code in its row, ``(B, N)``: 0 for the largest ``key``; codes that are 0 come last."""
    order = torch.where(z != 0, key, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(z.shape[1]).expand_as(order))


class Curve(NamedTuple):
    """Errors and class consistency with each of K numbers of codes kept."""

    errors: Tensor
    """Squared error of each sample, ``(K, B)``."""
    consistency: Tensor
    """Share of samples nearest to the same class mean as with all codes, ``(K,)``."""


class Truncation(NamedTuple):
    """Codes of some samples in an order."""

    subject: Subject
    samples: Tensor
    """Indices of the samples ``(B,)``."""
    place: Tensor
    """Rank of each of their codes, ``(B, N)``."""

    def of(self, own: Tensor) -> "Truncation":
        """Restrict to some of the samples."""
        return self._replace(samples=self.samples[own], place=self.place[own])

    def decoded(self, m: int) -> Tensor:
        """Reconstructions from the first m codes, ``(B, D)``."""
        return self.subject.decode(self.subject.z[self.samples] * (self.place < m))

    def errors(self, kept: Sequence[int]) -> Tensor:
        """Squared errors ``(K, B)`` with each number of codes."""
        x = self.subject.x[self.samples]
        return torch.stack([sample_errors(self.decoded(m), x) for m in kept])

    def curve(self, kept: Sequence[int]) -> "Curve":
        """Errors and consistency with each number of codes."""
        x, means = self.subject.x[self.samples], class_means(self.subject.x, self.subject.label)
        full = torch.cdist(self.subject.x_hat[self.samples], means).argmin(dim=1)
        errors, consistent = [], []
        for m in kept:
            x_hat = self.decoded(m)
            errors.append(sample_errors(x_hat, x))
            consistent.append((torch.cdist(x_hat, means).argmin(dim=1) == full).double().mean())
        return Curve(torch.stack(errors), torch.stack(consistent))


def _mean(curves: Sequence[Curve]) -> Curve:
    return Curve(*(torch.stack(values).mean(dim=0) for values in zip(*curves, strict=True)))


def class_means(x: Tensor, label: Tensor) -> Tensor:
    """Mean image of each class that occurs, ``(C, D)``."""
    return torch.stack([x[label == c].mean(dim=0) for c in label.unique()])


def _needed(
    truncations: Sequence[Truncation], kept: Sequence[int], errors: Tensor, variance: Tensor
) -> dict[str, int | None]:
    """Number of codes for each share, from the squared errors ``(K, B)``, a mean over ``truncations``."""

    def errors_with(numbers: Sequence[int]) -> Tensor:
        return torch.stack([own.errors(numbers).sum(dim=1) for own in truncations]).mean(dim=0)

    return {
        f"{p}_percent": units_needed(kept, errors.sum(dim=1), variance.sum(), p / 100, errors_with) for p in _PERCENT
    }


def _panels(arrays: Mapping[str, Array], orders: Sequence[str], numbers: Numbers, *, title: str) -> Figure:
    """FVU and class consistency by order over the numbers of codes kept; the codes needed, largest first, ringed."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name in ((left, "fvu"), (right, "consistency")):
        x = curves_over_units(axes, arrays["kept"], dict(zip(orders, arrays[name], strict=True)))
        axes.set_xlabel("codes kept in each image, m")
    left.axhline(1, color=GREY, linewidth=1)
    for p, units, marker in zip(_PERCENT, numbers.by_order[_LARGEST].values(), "osD", strict=True):
        if units is not None and numbers.fvu_full is not None:
            at, value = np.interp(units, arrays["kept"], x), 1 - p / 100 * (1 - numbers.fvu_full)
            ring = {"color": "black", "fillstyle": "none", "linestyle": "", "marker": marker, "markersize": 8}
            left.plot([at], [value], label=f"{p} % of what all explain: {units} codes", **ring)
    left.set(title="Reconstruction", ylabel="FVU (1: the mean training image)")
    right.set(title="Class consistency", ylabel="share with the same class mean nearest")
    finish(figure, title, columns=4)
    return figure


def _class_bars(needed: Mapping[str, Mapping[str, int | None]]) -> Figure:
    """A bar for each share of the variance by class: the number of codes needed, n/a where None."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(_PERCENT)
    for i, (percent, shade) in enumerate(zip(_PERCENT, _SHADES, strict=True)):
        values = [list(units.values())[i] for units in needed.values()]
        at = np.arange(len(values)) + (i - (len(_PERCENT) - 1) / 2) * width
        colour = lighter(BLUE, shade)
        bars = axes.bar(at, [value or 0 for value in values], 0.94 * width, color=colour, label=f"{percent} %")
        texts = ["n/a" if value is None else str(value) for value in values]
        axes.bar_label(bars, texts, fontsize=7.5, color=GREY)
    axes.set_xticks(range(len(needed)), list(needed))
    axes.set(xlabel="class", ylabel="largest codes kept")
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    title = "Codes needed for a share of the variance that all codes of the image explain, largest first"
    finish(figure, title, columns=3)
    axes.grid(visible=False, axis="x")
    return figure


def _strip(subject: Subject, index: Tensor) -> Figure:
    """A row for each image: the input, and its reconstructions from ever more of its largest codes."""
    z = subject.z[index]
    place = places(z, z.abs())
    kept = log_spaced(int((z != 0).sum(dim=1).max()), _STRIP_STEPS)
    images = [subject.x[index], *(subject.decode(z * (place < m)) for m in kept)]
    block = Block(
        np.stack([subject.images(part) for part in images], axis=1),
        rows=[f"class {c}" for c in subject.label[index].tolist()],
        columns=["input", *(f"m = {m}" for m in kept[:-1]), "all codes"],
    )
    return mosaic([block], title="Reconstructions from the m largest codes of each image")
