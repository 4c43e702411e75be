"""Noisy images, and how a coder answers them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.analysis.statistics import ratio, sample_errors


def gaussian(x: Tensor, sigmas: Sequence[float], *, clamp: bool) -> list[Tensor]:
    """x + sigma n, where n ~ N(0, 1) is the same for every sigma; with ``clamp`` cut to [0, 1]."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noisy = [x + sigma * noise for sigma in sigmas]
    return [images.clamp(0, 1) for images in noisy] if clamp else noisy


def salt_and_pepper(x: Tensor, shares: Sequence[float]) -> list[Tensor]:
    """x with a ``share`` of its values replaced by 0 or 1, as likely; a larger share holds all of a smaller one."""
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(x.shape, generator=generator)
    grain = torch.randint(2, x.shape, generator=generator).to(x.dtype)
    return [torch.where(chance < share, grain, x) for share in shares]


def relative_change(a: Tensor, b: Tensor, others: Tensor) -> float | None:
    """mean |b - a| / mean |others - a| over rows ``(B, D)``: 1 where b is as far from a as another sample is. Unlike
    |b - a| / |a|, it does not depend on where a coder has its zero. None where the samples do not differ.
    """
    return ratio((b - a).norm(dim=1).double().mean(), (others - a).norm(dim=1).double().mean())


def support_change(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """1 - |A and B| / |A or B| of the sets of units with |code| > threshold in each row, ``(B,)``; NaN where both are
    empty. Source: P. Jaccard, 1901.
    """
    in_a, in_b = a.abs() > threshold, b.abs() > threshold
    either = (in_a | in_b).sum(dim=1)
    return 1 - (in_a & in_b).sum(dim=1) / torch.where(either > 0, either, torch.nan)


def mean_defined(values: Tensor) -> float | None:
    """The mean of what is not NaN; None if there is nothing."""
    defined = values[~values.isnan()]
    return float(defined.double().mean()) if len(defined) else None


class Response(NamedTuple):
    """To noise of one strength; None where nothing is defined."""

    code_change: float | None
    """mean |z(x + n) - z(x)| over the mean distance |z(x') - z(x)| of the codes of two clean images."""
    code_gain: float | None
    """The same over that of the input."""
    support_change: float | None
    """1 - the Jaccard similarity of the sets of active units, |z| > threshold, over samples that have any."""
    clean_mse: float
    """Squared error to the clean image, of the reconstruction from the noisy one."""
    clean_fvu: float | None
    """The same over the variance around the mean training image."""


class Answer(NamedTuple):
    """Of one coder."""

    empty_codes: int
    """Samples whose clean code is all 0."""
    support_change_between_images: float | None
    """That between the codes of different clean images: dense codes never change as much as sparse ones."""
    responses: dict[str, list[Response]]
    """By kind of noise, to each strength."""


def answer(coder: Subject, x: Tensor, noisy: Mapping[str, Sequence[Tensor]], variance: Tensor) -> Answer:
    """To the ``noisy`` versions, by kind and strength, of the images ``x (B, D)``; ``variance (B,)`` is theirs around
    the mean training image.
    """
    z, threshold = coder.encode(x), coder.sample.threshold
    other = partners(len(z))
    return Answer(
        int((z == 0).all(dim=1).sum()),
        mean_defined(support_change(z, z[other], threshold)) if len(z) > 1 else None,
        {kind: [_respond(coder, x, z, images, variance, other) for images in row] for kind, row in noisy.items()},
    )


def partners(n: int) -> Tensor:
    """Another one for each of n samples, the next of a ring in random order: ``(n,)``."""
    ring = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return torch.empty_like(ring).scatter_(0, ring, ring.roll(1))


def _respond(coder: Subject, x: Tensor, z: Tensor, noisy: Tensor, variance: Tensor, other: Tensor) -> Response:
    noisy_z = coder.encode(noisy)
    code, image = relative_change(z, noisy_z, z[other]), relative_change(x, noisy, x[other])
    errors = sample_errors(coder.decode(noisy_z), x)
    return Response(
        code_change=code,
        code_gain=None if code is None or image is None else ratio(code, image),
        support_change=mean_defined(support_change(z, noisy_z, coder.sample.threshold)),
        clean_mse=float(errors.mean()) / x.shape[1],
        clean_fvu=ratio(errors.sum(), variance.sum()),
    )
