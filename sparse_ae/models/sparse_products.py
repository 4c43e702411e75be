"""Matrix products that skip zeros: sparse codes times atoms, and their sparse gradients times data and weights.

Dense products take over where skipping does not pay or is not possible. On a GPU they are faster than finding the
zeros. Under ``torch.func``, ``torch.compile`` and mixed precision shapes must not depend on data.
Measured in experiments/speed/sparse_products.py.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_ae.models.affine import affine

_DENSE_FROM = 0.15
"""Share of non-zeros from which a dense product is faster on a CPU."""


def code_product(z: Tensor, atoms: Tensor, support: Tensor | None) -> Tensor:
    """z @ atoms ``(B, D)`` from codes ``(B, N)`` that are 0, and need no gradient, outside of ``support (B, N)``.

    All of a stack of models have R as their first dimension.
    """
    if support is None or not (_may_skip(z, atoms) and _is_sparse(support)):
        return z @ atoms
    return _bags(z, atoms, support)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``affine`` with a backward pass that skips zeros of the gradient ``(B, N)`` of its result."""
    if not (torch.is_grad_enabled() and _may_skip(x, weight)):
        return affine(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def _may_skip(a: Tensor, b: Tensor) -> bool:
    transformed = torch._C._are_functorch_transforms_active()  # torch.autograd.Function asks it too
    return (
        a.dtype == b.dtype
        and a.device.type == "cpu"
        and a.dim() == b.dim()
        and a.dim() in (2, 3)
        and not (transformed or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
    )


def _is_sparse(support: Tensor) -> bool:
    return int(support.count_nonzero()) < _DENSE_FROM * support.numel()


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, without a gradient."""
    return _bags(a, b, a) if _is_sparse(a) else a @ b


def _bags(a: Tensor, b: Tensor, support: Tensor) -> Tensor:
    """a @ b: row i of the result sums the rows of b that row i of ``support`` selects, weighed by a."""
    flat, each = a.flatten(0, -2), b.shape[-2]
    chosen = support.flatten(0, -2).contiguous()  # of a transposed view, finding them takes four times as long
    rows, columns = chosen.nonzero().unbind(dim=1)
    starts = torch.searchsorted(rows, torch.arange(len(flat)))
    weights = flat[rows, columns]
    if b.dim() == 3:
        columns = columns + rows // a.shape[-2] * each  # the rows of each model's own b
    summed = F.embedding_bag(columns, b.flatten(0, -2), starts, mode="sum", per_sample_weights=weights)
    return summed.reshape(*a.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return affine(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight) if for_x else None,
            _product(gradient.mT, x) if for_weight else None,
            gradient.sum(dim=-2) if for_bias else None,
        )
