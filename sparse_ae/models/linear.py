"""Linear encoder and decoder: the sparse dictionary of the interpretability literature."""

from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.config.checked import with_options_of
from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import as_row
from sparse_ae.models.linear_decoder import LinearDecoder
from sparse_ae.models.sparse_products import linear


@with_options_of(LinearDecoder)
class Linear(LinearDecoder):
    """pre = W_e (x - b_pre) + b_e;  x_hat = z @ atoms + b_pre, with W_e initialised to the atoms (Gao et al. 2024).

    - ``tied``: W_e *is* the atoms throughout.
    - ``encoder_scale``: ratio of the initial W_e to the atoms.

    Further ``options`` are those of ``LinearDecoder``.
    Source: Bricken et al., "Towards monosemanticity", 2023; Gao et al., arXiv 2406.04093.

    >>> network = Linear(784, latent_dim=64)
    >>> network.dictionary.shape
    torch.Size([64, 784])
    >>> bool(torch.allclose(network.atom_norms(), torch.ones(64)))
    True
    """

    def __init__(
        self, input_dim: PositiveInt, *, tied: bool = False, encoder_scale: PositiveFloat = 1.0, **options: Any
    ) -> None:
        super().__init__(input_dim, **options)
        if tied and encoder_scale != 1:
            raise ConfigError("encoder_scale", f"{encoder_scale:g}", "tied weights are the atoms", "1")
        self.encoder_scale = encoder_scale
        self.encoder_weight = None if tied else nn.Parameter(encoder_scale * self.atoms.detach())
        self.encoder_bias = nn.Parameter(torch.zeros(self.latent_dim))

    def encode(self, x: Tensor) -> Tensor:
        weight = self.atoms if self.encoder_weight is None else self.encoder_weight
        return linear(x - as_row(self.b_pre), weight, self.encoder_bias)

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        changed = super().replace_units_(units, x, scale)
        self.encoder_bias[units] = 0
        if self.encoder_weight is None:
            return [*changed, self.encoder_bias]
        norms = torch.linalg.vector_norm(self.encoder_weight, dim=1)
        others = torch.ones_like(norms, dtype=torch.bool).index_fill(0, units, False)
        typical = norms[others].mean() if bool(others.any()) else norms.mean()
        self.encoder_weight[units] = scale * typical * self.atoms[units]
        return [*changed, self.encoder_bias, self.encoder_weight]

    @property
    def unit_bias(self) -> Tensor | None:
        return self.encoder_bias

    @torch.no_grad()
    def set_atoms_(self, atoms: Tensor) -> None:
        super().set_atoms_(atoms)
        if self.encoder_weight is not None:
            self.encoder_weight.copy_(self.encoder_scale * self.atoms)
