"""How many codes an image needs: reconstructions from a few of its codes, the others set to 0."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.ablation import ablate
from sparse_ae.analysis.base import Result, Subject
from sparse_ae.analysis.statistics import log_spaced, ratio, sample_errors, stratified, units_needed, variances
from sparse_ae.plotting import class_bars, image_table, truncation_panels

_STEPS, _STRIP_STEPS = 24, 8
"""Numbers of codes that are tried, and shown."""
_PERCENT = (90, 95, 99)
_LARGEST = "largest first"


def analyse(
    subject: Subject,
    *,
    n_samples: PositiveInt,
    random_draws: PositiveInt,
    n_images: PositiveInt,
) -> Result:
    """Of each sample's codes that are not 0 the first m are kept, in an order: by size |z|, from either end, by the
    importance of their units, or at random (the mean of ``random_draws``).

    Over m: MSE; FVU, over the variance around the mean training image; class consistency, the share of samples whose
    reconstruction has the same class mean nearest to it as their full reconstruction, the means being of all images. A
    decoder that is not affine may do worse with a few codes than with none; a sigmoid's codes are all != 0.

    Numbers: ``samples``, stratified by class; ``mse_full``, ``fvu_full`` and ``fvu_empty``, with all codes and with
    none; ``units_for_90_percent`` and so on: with how many of the largest codes and more at least 90 % of the variance
    is explained that all explain; ``units_for_95_percent_consistency``; ``by_order`` and ``by_class``, the numbers of
    units of every order and, largest first, of every class. None where all codes together explain nothing.
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
    fvu_full = ratio(largest.errors[-1].sum(), variance.sum())
    numbers = {
        "samples": len(index),
        "mse_full": float(largest.errors[-1].mean()) / subject.x.shape[1],
        "fvu_full": fvu_full,
        "fvu_empty": ratio(largest.errors[0].sum(), variance.sum()),
        **{f"units_for_{share}": units for share, units in by_order[_LARGEST].items()},
        "units_for_95_percent_consistency": units_needed(
            kept, 1 - largest.consistency, 1, 0.95, lambda numbers: 1 - by_size.curve(numbers).consistency
        ),
        "by_order": by_order,
        "by_class": by_class,
    }
    errors = torch.stack([curve.errors.sum(dim=1) for curve in curves.values()])
    arrays = {
        "kept": np.array(kept),
        "orders": np.array(list(curves)),
        "mse": (errors / (len(index) * subject.x.shape[1])).numpy(),
        "fvu": (errors / torch.where(variance.sum() > 0, variance.sum(), torch.nan)).numpy(),
        "consistency": torch.stack([curve.consistency for curve in curves.values()]).numpy(),
    }
    figures = {
        "truncation": truncation_panels(
            arrays["kept"],
            dict(zip(curves, arrays["fvu"], strict=True)),
            dict(zip(curves, arrays["consistency"], strict=True)),
            _marks(by_order[_LARGEST], fvu_full),
            title=f"Reconstructions from some of the codes of {len(index):,} test images, {z.shape[1]:,} units",
        ),
        "classes": class_bars(
            {"all": [*by_order[_LARGEST].values()]} | {c: [*needed.values()] for c, needed in by_class.items()},
            [f"{p} %" for p in _PERCENT],
            title="Codes needed for a share of the variance that all codes of the image explain, largest first",
        ),
        "strip": _strip(subject, stratified(subject.label, n_images)),
    }
    return Result(numbers, figures, arrays)


def places(z: Tensor, key: Tensor) -> Tensor:
    """Where each code stands in its row ``(B, N)``: 0 for the largest ``key``; codes that are 0 come last."""
    order = torch.where(z != 0, key, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(z.shape[1]).expand_as(order))


class Curve(NamedTuple):
    """With each of K numbers of codes kept."""

    errors: Tensor
    """Squared error of each sample, ``(K, B)``."""
    consistency: Tensor
    """Share of samples nearest to the same class mean as with all codes, ``(K,)``."""


class Truncation(NamedTuple):
    """The codes of some samples in an order."""

    subject: Subject
    samples: Tensor
    """Indices ``(B,)``."""
    place: Tensor
    """Where each of their codes stands, ``(B, N)``."""

    def of(self, own: Tensor) -> "Truncation":
        """Some of the samples."""
        return self._replace(samples=self.samples[own], place=self.place[own])

    def decoded(self, m: int) -> Tensor:
        """From the first m codes, ``(B, D)``."""
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
    """The mean image of each class there is, ``(C, D)``."""
    return torch.stack([x[label == c].mean(dim=0) for c in label.unique()])


def _needed(
    truncations: Sequence[Truncation], kept: Sequence[int], errors: Tensor, variance: Tensor
) -> dict[str, int | None]:
    """From the squared errors ``(K, B)``, a mean over ``truncations``."""

    def errors_with(numbers: Sequence[int]) -> Tensor:
        return torch.stack([own.errors(numbers).sum(dim=1) for own in truncations]).mean(dim=0)

    return {
        f"{p}_percent": units_needed(kept, errors.sum(dim=1), variance.sum(), p / 100, errors_with) for p in _PERCENT
    }


def _marks(needed: Mapping[str, int | None], fvu_full: float | None) -> list[tuple[str, int, float]]:
    """Where a curve reaches each share of what all codes explain: name, number of codes, FVU."""
    pairs = zip(_PERCENT, needed.values(), strict=True)
    return [
        (f"{p} % of what all explain: {units} codes", units, 1 - p / 100 * (1 - fvu_full))
        for p, units in pairs
        if units is not None and fvu_full is not None
    ]


def _strip(subject: Subject, index: Tensor) -> Figure:
    """An image in each row, and what is left of it with ever more of its largest codes."""
    z = subject.z[index]
    place = places(z, z.abs())
    kept = log_spaced(int((z != 0).sum(dim=1).max()), _STRIP_STEPS)
    images = [subject.x[index], *(subject.decode(z * (place < m)) for m in kept)]
    return image_table(
        np.stack([subject.images(part) for part in images], axis=1),
        rows=[f"class {c}" for c in subject.label[index].tolist()],
        columns=["input", *(f"m = {m}" for m in kept[:-1]), "all codes"],
        title="Reconstructions from the m largest codes of each image",
    )
