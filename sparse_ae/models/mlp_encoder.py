"""Linear decoder behind a deeper encoder."""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from sparse_ae.config.checked import with_options_of
from sparse_ae.functional import as_row
from sparse_ae.models.affine import Affine
from sparse_ae.models.linear import Linear


@with_options_of(Linear)
class MLPEncoder(Linear):
    """pre = W_e (x - b_pre) + b_e + W_2 ReLU(W_1 (x - b_pre) + b_1);  x_hat = z @ atoms + b_pre.

    A linear encoder and, beside it, a perceptron with one layer of ``hidden_dim`` units. W_2 starts near 0, so that
    training begins about where that of ``Linear`` does. Further ``options`` are those of ``Linear``.

    >>> MLPEncoder(784, latent_dim=64).hidden
    Affine(in_features=784, out_features=1024, bias=True)
    """

    def __init__(self, input_dim: PositiveInt, *, hidden_dim: PositiveInt = 1024, **options: Any) -> None:
        super().__init__(input_dim, **options)
        self.hidden = Affine(input_dim, hidden_dim)
        self.correction = Affine(hidden_dim, self.latent_dim, bias=False)
        nn.init.normal_(self.correction.weight, std=0.01)

    def encode(self, x: Tensor) -> Tensor:
        correction: Tensor = self.correction(torch.relu(self.hidden(x - as_row(self.b_pre))))
        return super().encode(x) + correction

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        changed = super().replace_units_(units, x, scale)
        correction = self.correction.weight
        assert isinstance(correction, nn.Parameter)
        correction[units] = 0
        return [*changed, correction]
