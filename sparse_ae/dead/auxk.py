"""AuxK: an auxiliary loss that trains dead units on the residual of the living ones."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from sparse_ae.dead.base import DeadUnits, mean_over_ranks
from sparse_ae.functional import as_cell, as_row, select_rows
from sparse_ae.models import SparseAutoencoder
from sparse_ae.sparsity import Decoder, Forward

_RISE = 0.01
"""Step of a dead unit's bias, as a share of the standard deviation of its pre-activations over the batch."""


class AuxK(DeadUnits):
    """term = |e - e_hat|^2 / |e|^2, summed over the batch, with e = target - x_hat, detached, e_hat = z_aux @ atoms.

    At most ``k_aux`` dead units take part, those silent longest. Each codes only the samples of the batch where its
    pre-activation is largest, as many as activate a unit on average: z_aux is ReLU(pre) there and 0 elsewhere. So a
    dead unit learns what a few samples lack. If it coded all samples, it would become positive for most of them, and
    large enough to fire for none. Of a unit that is negative for every sample z_aux is pre - t there, with t the
    largest of the other samples: ReLU would pass no gradient.

    The gradient g_b to a unit's pre-activations is divided, with t held fixed. The unit's own bias gets its sum over
    the batch, all else g_b less its mean. So rows of ``Linear``'s encoder learn sum_b g_b (x_b - mean x), and b_pre,
    which all units share, is left alone: many dead units would push it the same way, and living ones would die of it.
    Whatever else pre-activations depend on gets its gradient: with ``MLPEncoder`` the hidden layer; with ``LISTA``,
    through the residual, all atoms, the rows of living units, and biases. Of the decoder only atoms of dead units do.

    How easily a dead unit fires is also left to ``ease_``: it lowers the threshold, where the method learns one, as no
    gradient reaches that of a unit that does not fire; and the bias of a unit that is negative for every sample rises.
    That is meant for codes >= 0.

    The term is 0 while no unit is dead, and not computed while the last look found none.

    Source: Gao et al., arXiv 2406.04093, appendix A.2, with changes that suit MNIST. There a unit is dead after 10
    million samples, which would be 180 epochs, and the k_aux largest pre-activations of each sample are rectified:
    experiments/methods compares.
    """

    requires_atoms = True
    requires_pre = True

    def __init__(
        self,
        *,
        coefficient: NonNegativeFloat = 0.006,
        k_aux: PositiveInt = 256,
        window_epochs: PositiveFloat = 0.1,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__(window_epochs=window_epochs, latent_dim=latent_dim)
        self.k_aux = min(k_aux, latent_dim)
        self.register_buffer("auxk_coefficient", torch.tensor(coefficient))

    @property
    def coefficients(self) -> dict[str, Tensor]:
        return {"auxk": self.get_buffer("auxk_coefficient")}

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        if not self.some_dead:
            return {"auxk": forward.z.new_zeros(forward.z.shape[:-2])}
        silent, units = self.samples_since_fired.topk(self.k_aux, sorted=False)
        residual = (forward.target - forward.x_hat).detach()
        pre = select_rows(forward.pre.mT, units).mT
        shared = pre.mean(dim=-2, keepdim=True)
        if decoder.unit_bias is not None:
            shared = shared - as_row(decoder.unit_bias.gather(-1, units))
        pre = (pre - (shared - shared.detach())) * as_row(silent >= self.window.unsqueeze(-1))
        z_aux = _rare_codes(pre, (forward.z != 0).sum(dim=(-2, -1)) // forward.z.shape[-1])
        error = (decoder.combine(z_aux, units) - residual).square().sum(dim=(-2, -1))
        size = residual.square().sum(dim=(-2, -1))
        share = error / torch.where(size > 0, size, 1.0)
        return {"auxk": torch.where(self.dead.any(dim=-1) & self.has_dead, share, 0.0)}

    @torch.no_grad()
    def ease_(self, model: SparseAutoencoder, pre: Tensor) -> None:
        if self.some_dead:
            self.agree_()  # on what to change in parameters, which have to stay the same on every rank
            dead, bias = self.dead & self.has_dead.unsqueeze(-1), model.network.unit_bias
            model.sparsity.lower_thresholds_(dead)
            if bias is not None:
                bias.add_(torch.where(dead, mean_over_ranks(_rise(pre)), 0.0))


def _rise(pre: Tensor) -> Tensor:
    """Steps of the biases of units whose ``pre (B, N)`` are all negative, 0 for others, ``(N,)``."""
    return torch.where(pre.amax(dim=-2) < 0, _RISE * pre.std(dim=-2, correction=0), 0.0)


def _rare_codes(pre: Tensor, count: Tensor) -> Tensor:
    """Codes >= 0 ``(B, M)`` of each unit on its ``count`` samples of largest pre-activation, at least one; else 0."""
    ordered, order = pre.detach().sort(dim=-2, descending=True, stable=True)
    count = as_cell(count.clamp(1, pre.shape[-2] - 1))
    t = ordered.gather(-2, count.expand(*pre.shape[:-2], 1, pre.shape[-1]))
    codes = torch.relu(pre - torch.where(ordered[..., :1, :] > 0, 0.0, t))
    return torch.where(order.argsort(dim=-2) < count, codes, 0.0)
