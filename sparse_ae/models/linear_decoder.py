"""A linear decoder: the atoms of a dictionary and a bias, for any encoder."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import as_row, geometric_median, select_rows
from sparse_ae.models.network import Network
from sparse_ae.models.sparse_products import code_product
from sparse_ae.sparsity import TrainingData

BPre = Literal["zeros", "mean", "geometric_median"]
Start = Literal["random", "patches"]
_PATCH = 3.0
"""Standard deviation in pixels of the window that cuts a patch out of an image."""


class LinearDecoder(Network):
    """x_hat = z @ atoms + b_pre; subclasses say how x - b_pre becomes z.

    - ``unit_norm``: |atom_i|_2 = 1. The gradient's part parallel to each atom is removed before the step, so that the
      optimizer's moments stay on the sphere's tangent, and the atoms are renormalised after it.
    - ``b_pre``: initial value of the learned bias b_pre: ``zeros``, the training data's ``mean`` or their
      ``geometric_median``.
    - ``start``: initial atoms: ``random`` directions, or ``patches``: training images less their mean, seen through a
      Gaussian window around one of their bright pixels. Vectors have none.
    - ``atom_rate``: learning rate of the atoms, as a multiple of the optimizer's.
    """

    has_atoms = True

    def __init__(
        self,
        input_dim: PositiveInt,
        *,
        latent_dim: PositiveInt = 128,
        unit_norm: bool = True,
        b_pre: BPre = "mean",
        start: Start = "random",
        atom_rate: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(input_dim, latent_dim)
        self.start = start
        self.atom_rate = atom_rate
        self.unit_norm = unit_norm
        self.b_pre_init = b_pre
        self.atoms = nn.Parameter(F.normalize(torch.randn(latent_dim, input_dim), dim=1))
        self.b_pre = nn.Parameter(torch.zeros(input_dim))

    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return code_product(z, self.atoms, support) + as_row(self.b_pre)

    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return code_product(z, self.atoms.detach(), support) + as_row(self.b_pre.detach())

    def decode_prefix(self, z: Tensor, width: int, support: Tensor | None = None) -> Tensor:
        within = None if support is None else support[..., :width]
        return code_product(z[..., :width], self.atoms[..., :width, :], within) + as_row(self.b_pre)

    @property
    def dictionary(self) -> Tensor:
        return self.atoms

    def atom_norms(self) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(self.atoms, dim=-1)
        return norms

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        return z @ select_rows(self.atoms, units)

    def decoder_norms(self) -> Tensor:
        return self.atom_norms()

    @property
    def learning_rates(self) -> dict[str, float]:
        return {"atoms": self.atom_rate}

    def check(self, shape: tuple[int, ...]) -> None:
        if self.start == "patches" and len(shape) != 3:
            raise ConfigError("start", "patches", "the data are vectors, and patches are cut out of images", "random")

    @torch.no_grad()
    def setup_(self, data: TrainingData) -> None:
        self.check(data.shape)
        if self.start == "patches":
            self.set_atoms_(_patches(data, self.latent_dim))
        if self.b_pre_init == "mean":
            self.b_pre.copy_(data.mean)
        elif self.b_pre_init == "geometric_median":
            self.b_pre.copy_(geometric_median(data.sample))

    @torch.no_grad()
    def set_atoms_(self, atoms: Tensor) -> None:
        """Set the atoms to ``atoms (N, D)``, normalised, and all weights that are initialised from them."""
        self.atoms.copy_(F.normalize(atoms, dim=1))

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        self.atoms[units] = F.normalize(x - self.b_pre, dim=1)
        return [self.atoms]

    @torch.no_grad()
    def on_before_optimizer_step_(self) -> None:
        gradient = self.atoms.grad
        if self.unit_norm and gradient is not None:
            parallel = (gradient * self.atoms).sum(dim=-1, keepdim=True)
            gradient.addcmul_(parallel, self.atoms, value=-1)

    @torch.no_grad()
    def on_step_end_(self) -> None:
        if self.unit_norm:
            self.atoms.copy_(F.normalize(self.atoms, dim=-1))


def _patches(data: TrainingData, n: int) -> Tensor:
    """(image - mean) exp(-|p - c|^2 / (2 * _PATCH^2)), ``(n, D)``: random images, centres c drawn by brightness."""
    images = data.sample[torch.randint(len(data.sample), (n,))]
    height, width = data.shape[-2:]
    brightness = images.reshape(n, -1, height, width).sum(dim=1).flatten(1).clamp_min(0) + 1e-9
    centre = torch.multinomial(brightness, 1)
    rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
    distance = (rows - centre // width).square() + (columns - centre % width).square()
    window = torch.exp(-distance / (2 * _PATCH**2)).repeat(1, data.shape[0])
    return (images - data.mean) * window + 1e-3 * torch.randn_like(images)
