"""An encoder that corrects its codes by what they fail to reconstruct, a learned number of times over."""

import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.models.linear import BPre, Linear
from sparse_ae.models.network import Activation


class LISTA(Linear):
    """Learned iterative shrinkage: with a = the sparsity method's own activation and r_t the residual of step t,

        pre_0 = W_e (x - b_pre) + b_e
        z_t = a(pre_t),  r_t = x - b_pre - z_t @ atoms
        pre_{t+1} = z_t + W_t r_t

    for ``steps`` steps; x_hat = z @ atoms + b_pre. Proximal gradient descent has W_t = step size * atoms; here the W_t
    are learned, one for all steps (``shared``) or one for each, and start from ``step_size`` * atoms.
    Source: Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010.
    """

    def __init__(
        self,
        *,
        input_dim: PositiveInt,
        latent_dim: PositiveInt,
        steps: PositiveInt,
        shared: bool,
        step_size: NonNegativeFloat,
        unit_norm: bool,
        b_pre: BPre,
    ) -> None:
        super().__init__(input_dim=input_dim, latent_dim=latent_dim, tied=False, unit_norm=unit_norm, b_pre=b_pre)
        self.steps = steps
        weights = [nn.Parameter(step_size * self.atoms.detach()) for _ in range(1 if shared else steps)]
        self.step_weights = nn.ParameterList(weights)

    def encode(self, x: Tensor, activate: Activation) -> Tensor:
        pre = super().encode(x, activate)
        centred = x - self.b_pre
        for step in range(self.steps):
            z = activate(pre)
            pre = z + F.linear(centred - z @ self.atoms, self.step_weights[step % len(self.step_weights)])
        return pre
