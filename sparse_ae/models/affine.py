"""Affine maps of one model or of a stack of models."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight^T + bias, ``(B, N)`` from ``x (B, D)``, ``weight (N, D)`` and ``bias (N,)``.

    With a stack's ``weight (R, N, D)`` and ``bias (R, N)`` it is ``(R, B, N)``. Samples that all models share are
    ``(B, D)``, which makes one large product; else they are ``(R, B, D)``.
    """
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if x.dim() == 2:
        flat = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
        return flat.reshape(len(x), *weight.shape[:2]).transpose(0, 1)
    return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


class Affine(nn.Linear):
    """``nn.Linear`` whose parameters may be a stack's."""

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)
