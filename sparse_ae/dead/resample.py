"""Dead units started anew from inputs that are reconstructed badly."""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.optim import Optimizer

from sparse_ae.dead.base import DeadUnits, Moment
from sparse_ae.models import SparseAutoencoder


class Resample(DeadUnits):
    """Before every ``every_epochs``-th epoch each dead unit takes an input x - b_pre, drawn with probability ~ its
    squared error^2: as its atom, at norm 1, and as its encoder row, at ``scale`` times the mean norm of the living
    units' rows. Its bias becomes 0, and so do the optimizer's moments of its weights. After the share ``until`` of
    training units are left alone.

    Source: Bricken et al., "Towards monosemanticity", 2023, "Neuron resampling"; its ``scale`` 0.2 suits ReLU codes,
    where a new unit is active at once. Where units compete (top k), it has to be 1.
    """

    requires_atoms = True

    def __init__(
        self,
        *,
        window_epochs: PositiveFloat,
        every_epochs: PositiveInt,
        until: Annotated[float, Field(ge=0, le=1)],
        scale: PositiveFloat,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__(window_epochs=window_epochs, latent_dim=latent_dim)
        self.every_epochs = every_epochs
        self.until = until
        self.scale = scale

    @torch.no_grad()
    def revive_(self, model: SparseAutoencoder, optimizer: Optimizer, moment: Moment) -> int:
        units = self.dead.nonzero().squeeze(-1)
        if moment.epoch % self.every_epochs or moment.progress > self.until or not len(units):
            return 0
        x = moment.samples()
        error = (x - model.decode(model.encode(x))).square().sum(dim=1)
        drawn = torch.multinomial(error.double().square().cpu(), len(units), True, generator=moment.generator)
        chosen = x[drawn.to(x.device)]
        changed = [*model.network.replace_units_(units, chosen, self.scale), *model.sparsity.reset_units_(units)]
        for parameter in changed:
            for average in optimizer.state.get(parameter, {}).values():
                if isinstance(average, Tensor) and average.shape == parameter.shape:
                    average[units] = 0
        self.samples_since_fired[units] = 0
        self.revived.add_(len(units))
        return len(units)
