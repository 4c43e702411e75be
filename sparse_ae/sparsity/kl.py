"""KL penalty that holds each unit's mean activation near a target."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, kl_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits


class KL(Sparsity):
    """z = sigmoid(pre); loss = reconstruction + coefficient * sum_i KL(rho || mean_b z_bi).

    The divergence compares Bernoulli means, so codes have to lie in [0, 1]: the sigmoid is part of the method and not
    an option. The sum over units is identical under both reductions, which differ in the reconstruction alone.
    Source: A. Ng, "Sparse autoencoder", CS294A lecture notes, 2011.

    >>> KL(latent_dim=2).activate(torch.tensor([[0.0, 2.0]]))
    tensor([[0.5000, 0.8808]])
    """

    traits = Traits(steered="kl", code_range=(0.0, 1.0))

    def __init__(
        self,
        *,
        coefficient: Coefficient = 0.01,
        rho: Annotated[float, Field(gt=0, lt=1)] = 0.05,
        reduction: Reduction = "mean",
        warmup_steps: NonNegativeInt = 0,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({"kl": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        self.register_buffer("rho", torch.tensor(rho))

    def activate(self, pre: Tensor) -> Tensor:
        return torch.sigmoid(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        return {"kl": kl_penalty(forward.z, self.get_buffer("rho"))}
