"""One linear map on either side of the code: the sparse dictionary of the interpretability literature."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from sparse_ae.functional import geometric_median
from sparse_ae.models.network import Activation, Network

BPre = Literal["zeros", "mean", "geometric_median"]


class Linear(Network):
    """pre = W_e (x - b_pre) + b_e;  x_hat = z @ atoms + b_pre, with W_e initialised to the atoms (Gao et al. 2024).

    - ``tied``: W_e *is* the atoms throughout.
    - ``unit_norm``: |atom_i|_2 = 1. The gradient's part parallel to each atom is removed before the step, so that the
      optimizer's moments stay on the sphere's tangent, and the atoms are renormalised after it.
    - ``b_pre``: what the learned bias b_pre starts from: ``zeros``, the training data's ``mean`` or their
      ``geometric_median``.

    Source: Bricken et al., "Towards monosemanticity", 2023; Gao et al., arXiv 2406.04093.
    """

    has_atoms = True

    def __init__(
        self, *, input_dim: PositiveInt, latent_dim: PositiveInt, tied: bool, unit_norm: bool, b_pre: BPre
    ) -> None:
        super().__init__(input_dim, latent_dim)
        self.unit_norm = unit_norm
        self.b_pre_init = b_pre
        self.atoms = nn.Parameter(F.normalize(torch.randn(latent_dim, input_dim), dim=1))
        self.encoder_weight = None if tied else nn.Parameter(self.atoms.detach().clone())
        self.encoder_bias = nn.Parameter(torch.zeros(latent_dim))
        self.b_pre = nn.Parameter(torch.zeros(input_dim))

    def encode(self, x: Tensor, activate: Activation) -> Tensor:
        weight = self.atoms if self.encoder_weight is None else self.encoder_weight
        return F.linear(x - self.b_pre, weight, self.encoder_bias)

    def decode(self, z: Tensor) -> Tensor:
        return F.linear(z, self.atoms.T, self.b_pre)

    def decode_frozen(self, z: Tensor) -> Tensor:
        return F.linear(z, self.atoms.T.detach(), self.b_pre.detach())

    def decode_prefix(self, z: Tensor, width: int) -> Tensor:
        return F.linear(z[..., :width], self.atoms[:width].T, self.b_pre)

    @property
    def dictionary(self) -> Tensor:
        return self.atoms

    def atom_norms(self) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(self.atoms, dim=1)
        return norms

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        return z @ self.atoms.index_select(0, units)

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        directions = F.normalize(x - self.b_pre, dim=1)
        self.atoms[units] = directions
        self.encoder_bias[units] = 0
        if self.encoder_weight is None:
            return [self.atoms, self.encoder_bias]
        norms = torch.linalg.vector_norm(self.encoder_weight, dim=1)
        others = torch.ones_like(norms, dtype=torch.bool).index_fill(0, units, False)
        typical = norms[others].mean() if bool(others.any()) else norms.mean()
        self.encoder_weight[units] = scale * typical * directions
        return [self.atoms, self.encoder_bias, self.encoder_weight]

    def decoder_norms(self) -> Tensor:
        return self.atom_norms()

    @torch.no_grad()
    def fit_to_(self, sample: Tensor, mean: Tensor) -> None:
        if self.b_pre_init == "mean":
            self.b_pre.copy_(mean)
        elif self.b_pre_init == "geometric_median":
            self.b_pre.copy_(geometric_median(sample))

    @torch.no_grad()
    def before_step_(self) -> None:
        gradient = self.atoms.grad
        if self.unit_norm and gradient is not None:
            parallel = (gradient * self.atoms).sum(dim=1, keepdim=True)
            gradient.addcmul_(parallel, self.atoms, value=-1)

    @torch.no_grad()
    def after_step_(self) -> None:
        if self.unit_norm:
            self.atoms.copy_(F.normalize(self.atoms, dim=1))
