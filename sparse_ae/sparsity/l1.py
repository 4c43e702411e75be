"""L1 penalty on rectified codes."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, l1_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity


class L1(Sparsity):
    """z = ReLU(pre); loss = reconstruction + coefficient * |z|_1, reduced as ``functional.l1_penalty`` says.

    ``atom_norm`` weighs each code by its atom's norm, for networks with a linear decoder.
    """

    steered = "l1"

    def __init__(
        self,
        *,
        coefficient: Coefficient,
        atom_norm: bool,
        reduction: Reduction,
        warmup_steps: NonNegativeInt,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__({"l1": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        self.requires_atoms = atom_norm

    def activate(self, pre: Tensor) -> Tensor:
        return torch.relu(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        norms = decoder.atom_norms() if self.requires_atoms else None
        return {"l1": l1_penalty(forward.z, self.reduction, norms)}
