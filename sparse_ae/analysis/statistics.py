"""What analyses that leave units out have in common: which samples, how much of the variance, and how many units."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_ae.analysis.base import Subject


def stratified(label: Tensor, n: int) -> Tensor:
    """Indices of ``n`` samples, of each class its share of the labels ``(B,)``; all of them where n >= B."""
    n = min(n, len(label))
    middles = (2 * torch.arange(n) + 1) * len(label) // (2 * n)
    return label.argsort(stable=True)[middles]


def sample_errors(x_hat: Tensor, x: Tensor) -> Tensor:
    """|x_hat_b - x_b|^2 of each sample, ``(B,)`` in float64; ``x_hat`` may be one prediction ``(D,)`` for all."""
    errors: Tensor = (x_hat - x).norm(dim=1).double().square()
    return errors


def variances(subject: Subject, index: Tensor) -> Tensor:
    """|x_b - mean training image|^2 of the samples ``index``, float64: errors over the mean of these are the FVU."""
    return sample_errors(subject.sample.train_images().float().mean(dim=0), subject.x[index])


def ratio(part: Tensor | float, whole: Tensor | float) -> float | None:
    """part / whole; None where the whole is 0."""
    return float(part) / float(whole) if whole else None


def log_spaced(most: int, steps: int) -> list[int]:
    """0, ``most``, and about ``steps`` whole numbers between them, evenly spaced on a logarithmic scale."""
    between = np.geomspace(1, most, steps).round().astype(int).tolist() if most else []
    return sorted({0, *between, most})


def units_needed(
    tried: Sequence[int],
    errors: Tensor,
    variance: Tensor | float,
    share: float,
    errors_with: Callable[[Sequence[int]], Tensor],
) -> int | None:
    """With how many units and more at least ``share`` of the variance is explained that all of them explain.

    ``errors (K,)`` is what is left with each of the numbers ``tried``, in ascending order, the last of them all;
    ``variance`` is the error of the mean image. Between the two of them where the goal is passed for the last time, the
    passage is found by bisection: ``errors_with(numbers)``. None if even all units explain nothing.
    """
    explained = variance - errors
    goal = share * explained[-1]
    if explained[-1] <= 0:
        return None
    below: list[int] = (explained < goal).nonzero().flatten().tolist()
    if not below:
        return tried[0]
    short, enough = tried[below[-1]], tried[below[-1] + 1]
    while enough - short > 1:
        middle = (short + enough) // 2
        if variance - errors_with([middle])[0] < goal:
            short = middle
        else:
            enough = middle
    return enough
