"""One linear map on either side of the code: the sparse dictionary of the interpretability literature."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.functional import geometric_median
from sparse_ae.models.network import Activation, Network
from sparse_ae.models.sparse_products import code_product, linear

BPre = Literal["zeros", "mean", "geometric_median"]
Start = Literal["random", "patches"]
_PATCH = 3.0
"""Standard deviation in pixels of the window that cuts a patch out of an image."""


class Linear(Network):
    """pre = W_e (x - b_pre) + b_e;  x_hat = z @ atoms + b_pre, with W_e initialised to the atoms (Gao et al. 2024).

    - ``tied``: W_e *is* the atoms throughout.
    - ``unit_norm``: |atom_i|_2 = 1. The gradient's part parallel to each atom is removed before the step, so that the
      optimizer's moments stay on the sphere's tangent, and the atoms are renormalised after it.
    - ``b_pre``: what the learned bias b_pre starts from: ``zeros``, the training data's ``mean`` or their
      ``geometric_median``.
    - ``start``: the atoms start as ``random`` directions, or as ``patches``: training images less their mean, seen
      through a Gaussian window around one of their bright pixels.
    - ``encoder_scale``: W_e starts at so many times the atoms.
    - ``atom_rate``: the atoms learn at so many times the optimizer's rate.

    Source: Bricken et al., "Towards monosemanticity", 2023; Gao et al., arXiv 2406.04093.
    """

    has_atoms = True

    def __init__(
        self,
        *,
        input_dim: PositiveInt,
        latent_dim: PositiveInt,
        tied: bool,
        unit_norm: bool,
        b_pre: BPre,
        start: Start,
        encoder_scale: PositiveFloat,
        atom_rate: PositiveFloat,
    ) -> None:
        super().__init__(input_dim, latent_dim)
        if tied and encoder_scale != 1:
            raise ValueError(f"encoder_scale={encoder_scale:g}: tied weights are the atoms (allowed: 1)")
        self.start = start
        self.encoder_scale = encoder_scale
        self.atom_rate = atom_rate
        self.unit_norm = unit_norm
        self.b_pre_init = b_pre
        self.atoms = nn.Parameter(F.normalize(torch.randn(latent_dim, input_dim), dim=1))
        self.encoder_weight = None if tied else nn.Parameter(encoder_scale * self.atoms.detach())
        self.encoder_bias = nn.Parameter(torch.zeros(latent_dim))
        self.b_pre = nn.Parameter(torch.zeros(input_dim))

    def encode(self, x: Tensor, activate: Activation) -> Tensor:
        weight = self.atoms if self.encoder_weight is None else self.encoder_weight
        return linear(x - self.b_pre, weight, self.encoder_bias)

    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return code_product(z, self.atoms, support) + self.b_pre

    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return code_product(z, self.atoms.detach(), support) + self.b_pre.detach()

    def decode_prefix(self, z: Tensor, width: int, support: Tensor | None = None) -> Tensor:
        within = None if support is None else support[..., :width]
        return code_product(z[..., :width], self.atoms[:width], within) + self.b_pre

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

    @property
    def learning_rates(self) -> dict[str, float]:
        return {"atoms": self.atom_rate}

    @torch.no_grad()
    def fit_to_(self, sample: Tensor, mean: Tensor, shape: tuple[int, ...]) -> None:
        if self.start == "patches":
            self.set_atoms_(_patches(sample, mean, shape, self.latent_dim))
        if self.b_pre_init == "mean":
            self.b_pre.copy_(mean)
        elif self.b_pre_init == "geometric_median":
            self.b_pre.copy_(geometric_median(sample))

    @torch.no_grad()
    def set_atoms_(self, atoms: Tensor) -> None:
        """Start from these atoms ``(N, D)``, normalised, and whatever else starts from them."""
        self.atoms.copy_(F.normalize(atoms, dim=1))
        if self.encoder_weight is not None:
            self.encoder_weight.copy_(self.encoder_scale * self.atoms)

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


def _patches(sample: Tensor, mean: Tensor, shape: tuple[int, ...], n: int) -> Tensor:
    """(image - mean) exp(-|p - c|^2 / (2 * _PATCH^2)), ``(n, D)``: images at random, centres c as likely as bright."""
    images = sample[torch.randint(len(sample), (n,))]
    height, width = shape[-2:]
    brightness = images.reshape(n, -1, height, width).sum(dim=1).flatten(1).clamp_min(0) + 1e-9
    centre = torch.multinomial(brightness, 1)
    rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
    distance = (rows - centre // width).square() + (columns - centre % width).square()
    window = torch.exp(-distance / (2 * _PATCH**2)).repeat(1, shape[0])
    return (images - mean) * window + 1e-3 * torch.randn_like(images)
