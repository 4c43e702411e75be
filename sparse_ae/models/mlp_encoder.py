"""A deeper encoder in front of a linear decoder."""

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.models.linear import BPre, Linear, Start
from sparse_ae.models.network import Activation


class MLPEncoder(Linear):
    """pre = W_e (x - b_pre) + b_e + W_2 ReLU(W_1 (x - b_pre) + b_1);  x_hat = z @ atoms + b_pre.

    A linear encoder and a perceptron with one layer of ``hidden_dim`` units beside it. W_2 starts near 0, so that
    training begins about where that of ``Linear`` does.
    """

    def __init__(
        self,
        *,
        input_dim: PositiveInt,
        latent_dim: PositiveInt,
        hidden_dim: PositiveInt,
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
        self.hidden = nn.Linear(input_dim, hidden_dim)
        self.correction = nn.Linear(hidden_dim, latent_dim, bias=False)
        nn.init.normal_(self.correction.weight, std=0.01)

    def encode(self, x: Tensor, activate: Activation) -> Tensor:
        correction: Tensor = self.correction(torch.relu(self.hidden(x - self.b_pre)))
        return super().encode(x, activate) + correction

    @torch.no_grad()
    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        changed = super().replace_units_(units, x, scale)
        correction = self.correction.weight
        assert isinstance(correction, nn.Parameter)
        correction[units] = 0
        return [*changed, correction]
