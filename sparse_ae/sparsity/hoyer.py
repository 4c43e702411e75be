"""Hoyer penalty: sparseness of codes, whatever their scale."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, as_row, hoyer_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits


class Hoyer(Sparsity):
    """z = ReLU(pre); loss = reconstruction + coefficient * mean_b (1 - Hoyer sparseness of z_b).

    The term lies in [0, 1] and does not change when a code is scaled, so shrinking codes and growing atoms gains
    nothing. It is identical under both reductions.

    But |z_b|_1/|z_b|_2 can be escaped: where two units with opposite atoms grow together, or one that b_pre cancels,
    any code is sparse, and nothing is reconstructed by them. So with a linear decoder a code is no larger than what it
    reconstructs: codes are weighed by the norms of their atoms, z_bi |atom_i|_2, and |z_b|_2 becomes
    min(|z_b|_2, |x_hat_b - mean of x_hat over the batch|_2). Where atoms are orthogonal and nothing is the same in all
    samples, that is the penalty as it was (experiments/methods).
    Source: P. Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 2004.

    >>> Hoyer(latent_dim=4).activate(torch.tensor([[-1.0, 2.0, 0.0, 1.0]]))
    tensor([[0., 2., 0., 1.]])
    """

    traits = Traits(steered="hoyer")

    def __init__(
        self,
        *,
        coefficient: Coefficient = 0.001,
        reduction: Reduction = "mean",
        warmup_steps: NonNegativeInt = 0,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({"hoyer": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        if latent_dim < 2:
            raise ConfigError("model.latent_dim", latent_dim, "one unit has no Hoyer sparseness", "2 or more")

    def activate(self, pre: Tensor) -> Tensor:
        return torch.relu(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        if not decoder.has_atoms:
            return {"hoyer": hoyer_penalty(forward.z)}
        varies = forward.x_hat - forward.x_hat.mean(dim=-2, keepdim=True)
        parts = forward.z * as_row(decoder.atom_norms())
        return {"hoyer": hoyer_penalty(parts, torch.linalg.vector_norm(varies, dim=-1))}
