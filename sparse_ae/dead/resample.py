"""Resampling: dead units re-initialised from inputs that are reconstructed badly."""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.optim import Optimizer

from sparse_ae.dead.base import DeadUnits, Moment
from sparse_ae.functional import blockwise
from sparse_ae.models import SparseAutoencoder


class Resample(DeadUnits):
    """Re-initialises each dead unit from an input x - b_pre, drawn with probability ~ its squared error^2.

    The input becomes the unit's atom, at norm 1, and its encoder row, at ``scale`` times the mean norm of the living
    units' rows. Its bias becomes 0, and so do the optimizer's moments of its weights. This happens before every
    ``every_epochs``-th epoch, up to the share ``until`` of training.

    Source: Bricken et al., "Towards monosemanticity", 2023, "Neuron resampling". Its ``scale`` 0.2 suits ReLU codes,
    where a new unit is active at once. Where units compete (top k), it has to be 1.
    """

    requires_atoms = True

    def __init__(
        self,
        *,
        window_epochs: PositiveFloat = 1.0,
        every_epochs: PositiveInt = 2,
        until: Annotated[float, Field(ge=0, le=1)] = 0.75,
        scale: PositiveFloat = 0.2,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__(window_epochs=window_epochs, latent_dim=latent_dim)
        self.every_epochs = every_epochs
        self.until = until
        self.scale = scale

    @torch.no_grad()
    def on_epoch_start_(self, model: SparseAutoencoder, optimizer: Optimizer, moment: Moment) -> int:
        units = self.dead.nonzero().squeeze(-1)
        if moment.epoch % self.every_epochs or moment.progress > self.until or not len(units):
            return 0
        x = moment.samples()

        def errors(part: slice) -> Tensor:
            return (x[part] - model.decode(model.encode(x[part]))).square().sum(dim=1)

        error = blockwise(len(x), model.latent_dim, errors)
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
