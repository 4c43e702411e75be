"""Products of codes whose places are known: k rows are gathered for each sample, and nothing is multiplied by 0.

Codes are values and units, ``(B, k)`` each, as ``topk`` gives them. These are the forms of plain torch; those in Triton
are in ``experiments.speed.gpu.kernels``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_VALUES = 2**28
"""Largest number of values that are held at a time beside factors and result."""


def decode(values: Tensor, units: Tensor, atoms: Tensor) -> Tensor:
    """sum_j values_j atoms[units_j], ``(B, D)`` from ``atoms (N, D)``, with gradients of values and atoms."""
    return F.embedding_bag(units, atoms, mode="sum", per_sample_weights=values)


def outer(values: Tensor, units: Tensor, x: Tensor, n: int) -> Tensor:
    """z^T x, ``(n, D)`` from ``x (B, D)``: the gradient of encoder weights whose pre-activations have gradients z."""
    result = x.new_zeros(n, x.shape[1])
    rows = max(1, _VALUES // (values.shape[1] * x.shape[1]))
    for value, unit, row in zip(values.split(rows), units.split(rows), x.split(rows), strict=True):
        result.index_add_(0, unit.flatten(), (value.unsqueeze(-1) * row.unsqueeze(1)).flatten(0, 1))
    return result


def dense(values: Tensor, units: Tensor, n: int) -> Tensor:
    """The codes as ``(B, n)``."""
    return values.new_zeros(len(values), n).scatter(1, units, values)


def codes(batch: int, n: int, k: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Random codes: values and units, ``(B, k)``, no unit twice in a sample."""
    values, units = torch.randn(batch, n, device=device).topk(k, dim=1)
    return values, units
