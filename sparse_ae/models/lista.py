"""An encoder that corrects its codes by what they fail to reconstruct, a learned number of times over."""

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.models.linear import BPre, Linear, Start
from sparse_ae.models.network import Activation
from sparse_ae.models.sparse_products import code_product, linear


class LISTA(Linear):
    """Learned iterative shrinkage: with a = the sparsity method's own activation and r_t the residual of step t,

        pre_0 = W_e (x - b_pre) + b_e
        z_t = a(pre_t),  r_t = x - b_pre - z_t @ atoms
        pre_{t+1} = z_t + W_t r_t

    for ``steps`` steps; x_hat = z @ atoms + b_pre. Proximal gradient descent has W_t = step size * atoms; here the W_t
    are learned, one for all steps (``shared``) or one for each, and start from ``step_size`` * atoms.

    Once trained, ``refine_steps`` steps of conjugate gradients improve the codes that are not 0, towards the least
    squares solution on those atoms; a positive code stays positive or becomes 0. Training is without: with it more
    units died and the error was higher (experiments/frontier).
    Source: Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010.
    """

    codes_in_steps = True

    def __init__(
        self,
        *,
        input_dim: PositiveInt,
        latent_dim: PositiveInt,
        steps: PositiveInt,
        shared: bool,
        step_size: NonNegativeFloat,
        refine_steps: NonNegativeInt,
        unit_norm: bool,
        b_pre: BPre,
        start: Start,
        encoder_scale: PositiveFloat,
        atom_rate: PositiveFloat,
    ) -> None:
        super().__init__(
            input_dim=input_dim,
            latent_dim=latent_dim,
            tied=False,
            unit_norm=unit_norm,
            b_pre=b_pre,
            start=start,
            encoder_scale=encoder_scale,
            atom_rate=atom_rate,
        )
        self.steps = steps
        self.step_size = step_size
        self.refine_steps = refine_steps
        weights = [nn.Parameter(step_size * self.atoms.detach()) for _ in range(1 if shared else steps)]
        self.step_weights = nn.ParameterList(weights)

    def encode(self, x: Tensor, activate: Activation) -> Tensor:
        pre = super().encode(x, activate)
        centred = x - self.b_pre
        for step in range(self.steps):
            z = activate.codes(pre)
            residual = centred - code_product(z, self.atoms, activate.support(pre, z))
            pre = z + linear(residual, self.step_weights[step % len(self.step_weights)])
        return pre

    def refine(self, x: Tensor, z: Tensor) -> Tensor:
        """min_z |x - b_pre - z @ atoms|^2 over the codes != 0, by conjugate gradients on the normal equations."""
        if self.refine_steps == 0:
            return z
        support = z != 0
        refined = z
        residual = support * F.linear(x - self.b_pre - z @ self.atoms, self.atoms)
        direction, size = residual, residual.square().sum(dim=-1, keepdim=True)
        tiny = torch.finfo(z.dtype).tiny
        for _ in range(self.refine_steps):
            image = direction @ self.atoms
            step = size / image.square().sum(dim=-1, keepdim=True).clamp_min(tiny)
            refined = refined + step * direction
            residual = residual - step * (support * F.linear(image, self.atoms))
            size, before = residual.square().sum(dim=-1, keepdim=True), size
            direction = residual + size / before.clamp_min(tiny) * direction
        return torch.where(z > 0, refined.clamp_min(0), refined)

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        changed = super().replace_units_(units, x, scale)
        for weight in self.step_weights:
            weight[units] = self.step_size * self.atoms[units]
        return [*changed, *self.step_weights]

    @torch.no_grad()
    def set_atoms_(self, atoms: Tensor) -> None:
        super().set_atoms_(atoms)
        for weight in self.step_weights:
            weight.copy_(self.step_size * self.atoms)
