"""What is done to data before anything is learned from them: they are centred, and scaled for their squares' sake."""

import torch
from torch import Tensor

from sparse_ae.coders.checks import check_data


def centre(x: Tensor) -> tuple[Tensor, Tensor]:
    """x - mean ``(B, D)`` and the mean ``(D,)``, in float64 sums. Raises ``ValueError`` if x is empty or not finite."""
    check_data(x)
    if not len(x):
        raise ValueError("x: no samples (allowed: at least 1)")
    mean = (torch.stack([part.double().sum(dim=0) for part in x.split(10_000)]).sum(dim=0) / len(x)).to(x.dtype)
    return x - mean, mean


def scale(x: Tensor) -> float:
    """The largest power of 2 up to the largest |value|. To divide by it is exact, and saves squares from 0 and inf."""
    return 2.0 ** (int(torch.frexp(x.abs().amax()).exponent) - 1)


def unit(x: Tensor) -> Tensor:
    """The rows of ``x (B, D)``, none of them 0, at norm 1, however small or large they are."""
    x = x / x.abs().amax(dim=1, keepdim=True)
    length: Tensor = x.norm(dim=1, keepdim=True)
    return x / length
