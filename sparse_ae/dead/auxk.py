"""An auxiliary loss that lets dead units explain what the living leave over."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from sparse_ae.dead.base import DeadUnits
from sparse_ae.sparsity import Decoder, Forward


class AuxK(DeadUnits):
    """term = |e - e_hat|^2 / |e|^2 over the batch, with e = target - x_hat, detached, and e_hat = z_aux @ atoms.

    z_aux holds of each sample the ``k_aux`` largest pre-activations of dead units, rectified. Only dead units' atoms
    and encoder rows get a gradient from it. 0 while no unit is dead.
    Source: Gao et al., arXiv 2406.04093, appendix A.2. There a unit is dead after 10 million samples, which would be
    180 epochs of MNIST.
    """

    requires_atoms = True

    def __init__(
        self, *, coefficient: NonNegativeFloat, k_aux: PositiveInt, window_epochs: PositiveFloat, latent_dim: PositiveInt
    ) -> None:
        super().__init__(window_epochs=window_epochs, latent_dim=latent_dim)
        self.k_aux = min(k_aux, latent_dim)
        self.register_buffer("auxk_coefficient", torch.tensor(coefficient))

    @property
    def coefficients(self) -> dict[str, Tensor]:
        return {"auxk": self.get_buffer("auxk_coefficient")}

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        dead = self.dead
        residual = (forward.target - forward.x_hat).detach()
        candidates = torch.where(dead, torch.relu(forward.pre), 0.0)
        largest, index = candidates.topk(self.k_aux, dim=-1, sorted=False)
        z_aux = torch.zeros_like(candidates).scatter(-1, index, largest)
        error = (residual - decoder.combine(z_aux)).square().sum(dim=(-2, -1))
        share = error / residual.square().sum(dim=(-2, -1)).clamp_min(torch.finfo(error.dtype).tiny)
        return {"auxk": torch.where(dead.any(dim=-1), share, 0.0)}
