"""Lifetime winner-take-all: every unit keeps its strongest responses in the batch, so that few die."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, update_mean_
from sparse_ae.sparsity.base import Forward, Sparsity

_FORGETS = 0.01
"""The weight of the newest batch in the running means of the thresholds, once there were a hundred."""


class WTA(Sparsity):
    """In training z_bi = ReLU(pre_bi) where it is among the ``share`` largest of unit i over the batch
    (rounded up to whole samples), else 0.

    For a single sample, ``encode: relu`` takes off the constraint as the source does; ``threshold`` keeps what exceeds
    the running mean of the smallest activation that the unit kept in training, so that codes stay as sparse as there.
    Source: Makhzani and Frey, "Winner-take-all autoencoders", arXiv 1409.2752.
    """

    threshold: Tensor
    batches: Tensor

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
        self.register_buffer("batches", torch.tensor(0))

    def activate(self, pre: Tensor) -> Tensor:
        z = torch.relu(pre)
        return z * (pre >= self.threshold) if self.encodes_by_threshold else z

    def activate_batch(self, pre: Tensor) -> Tensor:
        return torch.relu(pre) * (pre >= self._smallest_kept(pre))

    def _smallest_kept(self, pre: Tensor) -> Tensor:
        """Of each unit, ``(N,)``."""
        winners = math.ceil(self.share * pre.shape[-2] - 1e-9)
        return pre.topk(winners, dim=-2, sorted=False).values.amin(dim=-2)

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        update_mean_(self.threshold, torch.relu(self._smallest_kept(forward.pre)), self.batches, _FORGETS)

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        if not 0 < l0 <= latent_dim:
            raise ValueError(f"{l0:g} active units: (allowed: more than 0, up to model.latent_dim={latent_dim})")
        return {"share": l0 / latent_dim}
