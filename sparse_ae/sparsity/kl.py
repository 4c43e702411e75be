"""KL penalty that holds each unit's mean activation near a target."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, kl_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity


class KL(Sparsity):
    """z = sigmoid(pre); loss = reconstruction + coefficient * sum_i KL(rho || mean_b z_bi).

    The divergence compares Bernoulli means, so the codes have to lie in [0, 1]: the sigmoid is part of the method and
    not an option. The sum over units is the same under both reductions, which differ in the reconstruction alone.
    Source: A. Ng, "Sparse autoencoder", CS294A lecture notes, 2011.
    """

    steered = "kl"
    code_range = (0.0, 1.0)

    def __init__(
        self,
        *,
        coefficient: Coefficient,
        rho: Annotated[float, Field(gt=0, lt=1)],
        reduction: Reduction,
        warmup_steps: NonNegativeInt,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__({"kl": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        self.register_buffer("rho", torch.tensor(rho))

    def activate(self, pre: Tensor) -> Tensor:
        return torch.sigmoid(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        return {"kl": kl_penalty(forward.z, self.get_buffer("rho"))}
