"""Gated sparse autoencoder: separate decisions on which units are active and how strongly."""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from sparse_ae.functional import Reduction, as_row, l1_penalty, reconstruction_error
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits


class Gated(Sparsity):
    """z = H(pre) ReLU(exp(r) pre + b): pre is the gate; scaled by exp(r) and shifted by b per unit, the magnitude.

    The step H has no gradient, so ReLU(pre) gets two terms. ``l1`` is |ReLU(pre)|_1. ``gate`` is the error of
    reconstructing from ReLU(pre) through a frozen decoder. The penalty thus shrinks the gate and not the magnitudes:
    loss = reconstruction + coefficient * l1 + gate.
    Source: Rajamanoharan et al., "Improving dictionary learning with gated sparse autoencoders", arXiv 2404.16014.
    There the magnitude has a bias of its own, here the gate's, scaled, plus b: the same functions, but the
    reconstruction trains the gate's bias too.

    >>> Gated(latent_dim=3).activate(torch.tensor([[-1.0, 0.0, 2.0]])).detach()
    tensor([[0., 0., 2.]])
    """

    traits = Traits(steered="l1")

    def __init__(
        self,
        *,
        coefficient: Coefficient = 0.01,
        reduction: Reduction = "mean",
        warmup_steps: NonNegativeInt = 0,
        latent_dim: PositiveInt = 128,
    ) -> None:
        coefficients = {"l1": coefficient, "gate": 1.0}
        super().__init__(coefficients, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))
        self.shift = nn.Parameter(torch.zeros(latent_dim))

    def activate(self, pre: Tensor) -> Tensor:
        return (pre > 0) * torch.relu(as_row(self.log_scale.exp()) * pre + as_row(self.shift))

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        gate = torch.relu(forward.pre)
        error = reconstruction_error(decoder.decode_frozen(gate, gate != 0), forward.target, self.reduction)
        return {"l1": l1_penalty(gate, self.reduction), "gate": error}

    @torch.no_grad()
    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        for parameter in (self.log_scale, self.shift):
            parameter[units] = 0
        return [self.log_scale, self.shift]
