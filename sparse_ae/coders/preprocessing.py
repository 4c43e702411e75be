"""Preprocessing of data to learn from: centre samples, scale them so that their squares neither under- nor overflow."""

import torch
from torch import Tensor

from sparse_ae.coders.checks import check_samples


def centre(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x - mean ``(B, D)`` and the mean ``(D,)``, summed in float64.

    Raises ``UserError`` if x is empty or not finite.
    """
    check_samples(x)
    mean = (torch.stack([part.double().sum(dim=0) for part in x.split(10_000)]).sum(dim=0) / len(x)).to(x.dtype)
    return x - mean, mean


def scale(x: Tensor) -> float:
    """Largest power of 2 that is at most the largest |value|: dividing by it is exact."""
    return 2.0 ** (int(torch.frexp(x.abs().amax()).exponent) - 1)


def unit(x: Tensor) -> Tensor:
    """Scale the rows of ``x (B, D)``, none of them zero, to norm 1. Their squares may under- or overflow."""
    x = x / x.abs().amax(dim=1, keepdim=True)
    length: Tensor = x.norm(dim=1, keepdim=True)
    return x / length
