"""Lifetime winner-take-all: every unit keeps its strongest responses in the batch, so that few die."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Forward, Sparsity

_RATE = 0.01
"""How much of its size a threshold loses after a batch of which nothing exceeds it."""
_LARGEST_EXCESS = 10
"""Of the share that exceeds it over the share that should."""


class WTA(Sparsity):
    """In training z_bi = ReLU(pre_bi) where it is among the ``share`` largest of unit i over the batch
    (rounded up to whole samples), else 0.

    For a single sample, ``encode: relu`` takes off the constraint as the source does; ``threshold`` keeps what exceeds
    a threshold t_i of the unit that ``share`` of the samples exceed, so that codes stay as sparse as in training. It
    starts from the smallest activation kept and follows the batches (Robbins and Monro, 1951): t_i *= 1 + _RATE
    (share of the batch >= t_i / share - 1). The mean of the smallest kept is too high where few are: tails are convex.
    Source: Makhzani and Frey, "Winner-take-all autoencoders", arXiv 1409.2752.
    """

    couples_samples = True
    threshold: Tensor

    def __init__(
        self,
        *,
        share: Annotated[float, Field(gt=0, le=1)],
        encode: Literal["threshold", "relu"],
        reduction: Reduction,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.share = share
        self.encodes_by_threshold = encode == "threshold"
        self.register_buffer("threshold", torch.zeros(latent_dim))

    def activate(self, pre: Tensor) -> Tensor:
        z = torch.relu(pre)
        return z * (pre >= self.threshold) if self.encodes_by_threshold else z

    def activate_batch(self, pre: Tensor) -> Tensor:
        winners = math.ceil(self.share * pre.shape[-2] - 1e-9)
        smallest = pre.topk(winners, dim=-2, sorted=False).values.amin(dim=-2)
        return torch.relu(pre) * (pre >= smallest)

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        kept = forward.z > 0
        smallest = torch.where(kept, forward.z, torch.inf).amin(dim=-2)
        on = (forward.pre >= self.threshold) & (forward.pre > 0)
        share = on.to(smallest.dtype).mean(dim=-2)
        factor = 1 + _RATE * (share / self.share - 1).clamp_max(_LARGEST_EXCESS)
        unknown = (self.threshold == 0) & kept.any(dim=-2)
        self.threshold.copy_(torch.where(unknown, smallest, self.threshold * factor))

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        if not 0 < l0 <= latent_dim:
            raise ValueError(f"{l0:g} active units: (allowed: more than 0, up to model.latent_dim={latent_dim})")
        return {"share": l0 / latent_dim}
