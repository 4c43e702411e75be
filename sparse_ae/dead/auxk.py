"""An auxiliary loss that lets dead units explain what the living leave over."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from sparse_ae.dead.base import DeadUnits
from sparse_ae.functional import keep_largest
from sparse_ae.sparsity import Decoder, Forward


class AuxK(DeadUnits):
    """term = |e - e_hat|^2 / |e|^2 over the batch, with e = target - x_hat, detached, and e_hat = z_aux @ atoms.

    z_aux holds of each sample the ``k_aux`` largest pre-activations of dead units. Only dead units' atoms and encoder
    rows get a gradient from it. 0 while no unit is dead, and not computed while the last count found none.
    Source: Gao et al., arXiv 2406.04093, appendix A.2, with two changes that MNIST asks for. A unit is dead there after
    10 million samples, which would be 180 epochs. And z_aux is rectified there, but the pre-activations of units that
    died here are negative for every sample: rectified, they would get no gradient.
    """

    requires_atoms = True

    def __init__(
        self,
        *,
        coefficient: NonNegativeFloat,
        k_aux: PositiveInt,
        window_epochs: PositiveFloat,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__(window_epochs=window_epochs, latent_dim=latent_dim)
        self.k_aux = min(k_aux, latent_dim)
        self.register_buffer("auxk_coefficient", torch.tensor(coefficient))

    @property
    def coefficients(self) -> dict[str, Tensor]:
        return {"auxk": self.get_buffer("auxk_coefficient")}

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        if not self.some_dead:
            return {"auxk": forward.x.new_zeros(())}
        dead = self.dead
        residual = (forward.target - forward.x_hat).detach()
        ranked = forward.pre.detach().masked_fill(~dead, -torch.inf)
        z_aux = keep_largest(torch.where(dead, forward.pre, 0.0), self.k_aux, by=ranked)
        error = (residual - decoder.combine(z_aux)).square().sum(dim=(-2, -1))
        share = error / residual.square().sum(dim=(-2, -1)).clamp_min(torch.finfo(error.dtype).tiny)
        return {"auxk": torch.where(dead.any(dim=-1), share, 0.0)}
