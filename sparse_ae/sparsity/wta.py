"""Lifetime winner-take-all: every unit keeps its strongest responses in the batch, so that few die."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Forward, Sparsity
from sparse_ae.sparsity.threshold import Threshold


class WTA(Sparsity):
    """In training z_bi = ReLU(pre_bi) where it is among the ``share`` largest of unit i over the batch
    (rounded up to whole samples), else 0.

    For a single sample, ``encode: relu`` takes off the constraint as the source does; ``threshold`` keeps what passes
    a ``Threshold`` of the unit that ``share`` of the samples pass: codes as sparse as in training, or sparser where
    ``share`` of a batch is no whole number of samples.
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
        self.any_density = None if self.encodes_by_threshold else "encode=relu"
        self.threshold = Threshold(latent_dim)

    def activate(self, pre: Tensor) -> Tensor:
        return pre * self.threshold.passes(pre) if self.encodes_by_threshold else torch.relu(pre)

    def activate_batch(self, pre: Tensor) -> Tensor:
        winners = math.ceil(self.share * pre.shape[-2] - 1e-9)
        smallest = pre.topk(winners, dim=-2, sorted=False).values.amin(dim=-2)
        return torch.relu(pre) * (pre >= smallest)

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        self.threshold.follow_(forward.pre, forward.z, self.share, dims=(-2,))

    @torch.no_grad()
    def validated_(self, metrics: Mapping[str, float]) -> None:
        if self.encodes_by_threshold:
            self.threshold.calibrate_(metrics["val/l0"] / (self.share * self.latent_dim))

    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        self.threshold.value[units] = 0.0
        return []

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        if not 0 < l0 <= latent_dim:
            raise ValueError(f"{l0:g} active units: (allowed: more than 0, up to model.latent_dim={latent_dim})")
        return {"share": l0 / latent_dim}
