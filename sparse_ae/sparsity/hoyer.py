"""Hoyer's sparseness as a penalty: indifferent to the scale of the codes."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, hoyer_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity


class Hoyer(Sparsity):
    """z = ReLU(pre); loss = reconstruction + coefficient * mean_b (1 - Hoyer sparseness of z_b).

    The term lies in [0, 1] and does not change when a code is scaled, so that nothing is gained by shrinking codes and
    growing atoms. It is the same under both reductions.
    Source: P. Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 2004.
    """

    steered = "hoyer"

    def __init__(
        self,
        *,
        coefficient: Coefficient,
        reduction: Reduction,
        warmup_steps: NonNegativeInt,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__({"hoyer": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        if latent_dim < 2:
            raise ValueError(f"model.latent_dim={latent_dim}: one unit has no sparseness (allowed: 2 or more)")

    def activate(self, pre: Tensor) -> Tensor:
        return torch.relu(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        return {"hoyer": hoyer_penalty(forward.z)}
