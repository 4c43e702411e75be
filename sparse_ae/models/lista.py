"""LISTA: an encoder that refines its codes from the reconstruction residual in a fixed number of learned steps."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from sparse_ae.config.checked import with_options_of
from sparse_ae.functional import as_row
from sparse_ae.models.linear import Linear
from sparse_ae.models.network import Correction
from sparse_ae.models.sparse_products import code_product, linear


@with_options_of(Linear)
class LISTA(Linear):
    """Learned iterative shrinkage: with a = the sparsity method's own activation and r_t the residual of step t,

        pre_0 = W_e (x - b_pre) + b_e
        z_t = a(pre_t),  r_t = x - b_pre - z_t @ atoms
        pre_{t+1} = z_t + W_t r_t

    for ``steps`` steps; x_hat = z @ atoms + b_pre. Proximal gradient descent has W_t = step size * atoms. Here the W_t
    are learned, one for all steps (``shared``) or one for each, and start from ``step_size`` * atoms.

    After training, ``refine_steps`` steps of conjugate gradients move the codes that are not 0 towards the least
    squares solution on their atoms; a positive code stays positive or becomes 0. Training goes without: with it more
    units died and the error was higher (experiments/frontier).
    Further ``options`` are those of ``Linear``.
    Source: Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010.

    >>> network = LISTA(784, latent_dim=64, steps=2)
    >>> [tuple(weight.shape) for weight in network.step_weights]
    [(64, 784), (64, 784)]
    """

    codes_in_steps = True

    def __init__(
        self,
        input_dim: PositiveInt,
        *,
        steps: PositiveInt = 1,
        shared: bool = False,
        step_size: NonNegativeFloat = 0.2,
        refine_steps: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(input_dim, **options)
        self.steps = steps
        self.step_size = step_size
        self.refine_steps = refine_steps
        weights = [nn.Parameter(step_size * self.atoms.detach()) for _ in range(1 if shared else steps)]
        self.step_weights = nn.ParameterList(weights)

    @property
    def unit_bias(self) -> None:
        """None: the bias b_e is a summand of the first step alone."""
        return None

    def corrections(self, x: Tensor) -> Sequence[Correction]:
        centred = x - as_row(self.b_pre)
        weights = [self.step_weights[step % len(self.step_weights)] for step in range(self.steps)]
        return [partial(self._correct, centred, weight) for weight in weights]

    def _correct(self, centred: Tensor, weight: Tensor, z: Tensor, support: Tensor) -> Tensor:
        """z + W (x - b_pre - z @ atoms), ``(B, N)``."""
        return z + linear(centred - code_product(z, self.atoms, support), weight)

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
