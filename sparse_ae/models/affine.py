"""Affine maps of one model or of a stack of models."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight^T + bias, ``(B, N)`` from ``x (B, D)``, ``weight (N, D)`` and ``bias (N,)``.

    With a stack's ``weight (R, N, D)`` and ``bias (R, N)`` it is ``(R, B, N)``. Samples that all models share are
    ``(B, D)``, which makes one large product; else they are ``(R, B, D)``.
    """
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if torch.is_autocast_enabled(x.device.type):  # which does not reach into the function below
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    result: Tensor = _OfStack.apply(x, weight, bias)
    return result


class Affine(nn.Linear):
    """``nn.Linear`` whose parameters may be a stack's."""

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


class _OfStack(torch.autograd.Function):
    """Batched products whose gradients are contiguous: autograd's own would be transposed, and copied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if x.dim() == 3:
            return x @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)
        flat = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
        return flat.reshape(len(x), *weight.shape[:2]).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        of_x = gradient @ weight if for_x else None
        if of_x is not None and x.dim() == 2:
            of_x = of_x.sum(dim=0)
        rows = gradient.mT if x.dim() == 3 else gradient.mT.flatten(0, 1)  # of all models in one product
        return of_x, (rows @ x).view_as(weight) if for_weight else None, gradient.sum(dim=-2) if for_bias else None
