"""Hoyer penalty: sparseness of codes, whatever their scale."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, as_row, hoyer_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits


class Hoyer(Sparsity):
    """z = ReLU(pre); loss = reconstruction + coefficient * mean_b (|p_b|_1/s_b - 1) / (sqrt(N) - 1).

    Without atoms p = z and s_b = |z_b|_2: the term is 1 - Hoyer sparseness, lies in [0, 1] and does not change when a
    code is scaled, so that shrinking codes and growing weights gains nothing. It is identical under both reductions.

    With a linear decoder that can be escaped: where two units with opposite atoms grow together, or one that b_pre
    cancels, any code is sparse, and nothing is reconstructed by them (experiments/methods). There the parts of a
    reconstruction count, p_bi = z_bi |atom_i|_2, and no more of their size than what differs between samples:
    s_b = min(|p_b|_2, |x_hat_b - mean of x_hat over the batch|_2), but at least |p_b|_2 / sqrt(N), so that the term
    stays below sqrt(N) + 1. It does not change when all codes are scaled. A batch of one sample has no mean to differ
    from: s_b = |p_b|_2.
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
        parts = forward.z * as_row(decoder.atom_norms())
        if forward.z.shape[-2] == 1:
            return {"hoyer": hoyer_penalty(parts)}
        varies = forward.x_hat - forward.x_hat.mean(dim=-2, keepdim=True)
        return {"hoyer": hoyer_penalty(parts, torch.linalg.vector_norm(varies, dim=-1))}
