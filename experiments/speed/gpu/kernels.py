"""Products of codes whose places are known, in Triton: those of ``experiments.speed.gathered`` without its copies.

Under ``TRITON_INTERPRET=1`` they run on a CPU, where tests/gpu compares them with dense products.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 256


@triton.jit
def _add(a, b):  # not Triton's own sum, which is compiled once Triton is imported without TRITON_INTERPRET
    return a + b


@triton.jit
def _decode(values, units, atoms, out, dim: tl.constexpr, k: tl.constexpr, columns: tl.constexpr):
    sample, column = tl.program_id(0), tl.program_id(1) * columns + tl.arange(0, columns)
    inside = column < dim
    total = tl.full((columns,), 0.0, tl.float32)
    for j in range(k):
        unit = tl.load(units + sample * k + j)
        total += tl.load(values + sample * k + j) * tl.load(atoms + unit * dim + column, mask=inside, other=0.0)
    tl.store(out + sample * dim + column, total, mask=inside)


@triton.jit
def _scores(gradient, units, atoms, out, dim: tl.constexpr, k: tl.constexpr, columns: tl.constexpr):
    sample, j = tl.program_id(0), tl.program_id(1)
    unit = tl.load(units + sample * k + j)
    total = tl.full((columns,), 0.0, tl.float32)
    for start in range(0, dim, columns):
        column = start + tl.arange(0, columns)
        row = tl.load(gradient + sample * dim + column, mask=column < dim, other=0.0)
        total += row * tl.load(atoms + unit * dim + column, mask=column < dim, other=0.0)
    tl.store(out + sample * k + j, tl.reduce(total, 0, _add))


@triton.jit
def _outer(values, units, x, out, dim: tl.constexpr, k: tl.constexpr, columns: tl.constexpr):
    sample, column = tl.program_id(0), tl.program_id(1) * columns + tl.arange(0, columns)
    inside = column < dim
    row = tl.load(x + sample * dim + column, mask=inside, other=0.0)
    for j in range(k):
        unit = tl.load(units + sample * k + j)
        tl.atomic_add(out + unit * dim + column, tl.load(values + sample * k + j) * row, mask=inside)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, units: Tensor, atoms: Tensor) -> Tensor:
        ctx.save_for_backward(values, units, atoms)
        (batch, k), dim = units.shape, atoms.shape[1]
        out = atoms.new_empty(batch, dim)
        _decode[(batch, triton.cdiv(dim, _COLUMNS))](values, units, atoms, out, dim, k, _COLUMNS)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, units, atoms = ctx.saved_tensors
        gradient, (batch, k), dim = gradient.contiguous(), units.shape, atoms.shape[1]
        of_values = torch.empty_like(values)
        _scores[(batch, k)](gradient, units, atoms, of_values, dim, k, _COLUMNS)
        return of_values, None, outer(values, units, gradient, len(atoms))


def decode(values: Tensor, units: Tensor, atoms: Tensor) -> Tensor:
    """sum_j values_j atoms[units_j], ``(B, D)`` from contiguous float32, with gradients of values and atoms."""
    result: Tensor = _Decode.apply(values, units, atoms)
    return result


def outer(values: Tensor, units: Tensor, x: Tensor, n: int) -> Tensor:
    """z^T x, ``(n, D)`` from contiguous ``x (B, D)``. Added in an order that differs from call to call."""
    result, (batch, k), dim = x.new_zeros(n, x.shape[1]), units.shape, x.shape[1]
    _outer[(batch, triton.cdiv(dim, _COLUMNS))](values, units, x, result, dim, k, _COLUMNS)
    return result
