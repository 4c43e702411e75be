"""Lifetime winner-take-all: every unit keeps its strongest responses in the batch, so that few die."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Forward, Sparsity
from sparse_ae.sparsity.threshold import Threshold


class WTA(Sparsity):
    """In training z_bi = ReLU(pre_bi) where it is among the ``share`` largest of unit i over the batch
    (rounded up to whole samples), else 0.

    For a single sample, ``encode: relu`` takes off the constraint as the source does; ``threshold`` keeps what passes
    a ``Threshold`` of the unit that ``share`` of the samples pass, so that codes stay as sparse as in training.
    Source: Makhzani and Frey, "Winner-take-all autoencoders", arXiv 1409.2752.
    """

    couples_samples = True

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
        self.threshold = Threshold(latent_dim)

    def activate(self, pre: Tensor) -> Tensor:
        return pre * self.threshold.passes(pre) if self.encodes_by_threshold else torch.relu(pre)

    def activate_batch(self, pre: Tensor) -> Tensor:
        winners = math.ceil(self.share * pre.shape[-2] - 1e-9)
        smallest = pre.topk(winners, dim=-2, sorted=False).values.amin(dim=-2)
        return torch.relu(pre) * (pre >= smallest)

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        smallest = torch.where(forward.z > 0, forward.z, torch.inf).amin(dim=-2)
        share = self.threshold.passes(forward.pre).to(smallest.dtype).mean(dim=-2)
        self.threshold.follow_(share / self.share, smallest)

    def calibrate_(self, excess: float) -> None:
        self.threshold.calibrate_(excess)

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        if not 0 < l0 <= latent_dim:
            raise ValueError(f"{l0:g} active units: (allowed: more than 0, up to model.latent_dim={latent_dim})")
        return {"share": l0 / latent_dim}
