"""L1 penalty on rectified codes."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, l1_penalty
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits


class L1(Sparsity):
    """z = ReLU(pre); loss = reconstruction + coefficient * |z|_1, reduced as in ``functional.l1_penalty``.

    ``atom_norm`` weighs each code by the norm of its atom, for networks with a linear decoder.

    >>> L1(latent_dim=3).activate(torch.tensor([[-1.0, 0.5, 2.0]]))
    tensor([[0.0000, 0.5000, 2.0000]])
    """

    traits = Traits(steered="l1")

    def __init__(
        self,
        *,
        coefficient: Coefficient = 0.01,
        atom_norm: bool = False,
        reduction: Reduction = "mean",
        warmup_steps: NonNegativeInt = 0,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({"l1": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        self.traits = self.traits._replace(needs_atoms=atom_norm)

    def activate(self, pre: Tensor) -> Tensor:
        return torch.relu(pre)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        norms = decoder.atom_norms() if self.traits.needs_atoms else None
        return {"l1": l1_penalty(forward.z, self.reduction, norms)}
