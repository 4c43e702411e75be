"""Training without Lightning: the framework's step in a plain loop, which can go on with other data."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam

from sparse_ae.data.scale import Moments, Normalization, Scale
from sparse_ae.dead.base import Moment
from sparse_ae.functional import epoch_order, stream_seed
from sparse_ae.sparsity import TrainingData
from sparse_ae.training.losses import StepLosses, loss_values
from sparse_ae.training.objective import Objective
from sparse_ae.training.schedulers import make_optimizer

_SAMPLES = 10_000
"""Number of rows for data-dependent initialisation, and for resampling dead units."""


class TrainingLoop:
    """Steps of ``objective`` by Adam, over rows ``(n, D)`` in the order of (``seed``, epoch), as a run takes them.

    Rows are in the data's own unit, and so is what the model takes between passes. It is trained on the scale that
    ``normalize`` fits to ``moments``. ``total_steps`` is infinite if the training has no end.
    """

    def __init__(
        self,
        objective: Objective,
        moments: Moments,
        normalize: Normalization,
        *,
        learning_rate: float,
        batch_size: int,
        seed: int,
        total_steps: float,
    ) -> None:
        self.objective, self.moments = objective, moments
        self.scale = Scale.fit(normalize, moments).to(next(objective.parameters()).dtype)
        self.optimizer = make_optimizer(partial(Adam, lr=learning_rate, fused=True), objective.model)
        self.batch_size, self.seed, self.total_steps = batch_size, seed, total_steps
        self.step = self.epoch = 0
        self._losses = StepLosses(objective.coefficients)

    def setup_(self, x: Tensor) -> None:
        """Initialise from the rows ``x (n, D)``, before the first pass."""
        sample, mean = self.scale(x[:_SAMPLES]), self.scale(self.moments.mean.to(x))
        self.objective.setup_(TrainingData(sample, mean, x.shape[1:], len(x)))

    def pass_(self, x: Tensor) -> float:
        """Train on each row of ``x (n, D)`` once and return the mean loss. Raises ``NonFiniteLossError``."""
        x = x.to(next(self.objective.parameters()).dtype)
        with self._on_the_scale_of_training():
            if self.epoch:
                self._revive_(x)
            for rows in epoch_order(len(x), self.seed, self.epoch).split(self.batch_size):
                batch = self.scale(x.index_select(0, rows))
                loss = self.objective.train_step_(self.optimizer, batch, step=self.step, total_steps=self.total_steps)
                self.step += 1
                self._losses.add(loss_values(loss), self.step)
        self.epoch += 1
        self.optimizer.zero_grad()
        return self._losses.take_means()["loss"]

    def _revive_(self, x: Tensor) -> None:
        """Change weights of dead units, which is done between two passes."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, self.epoch))

        def samples() -> Tensor:
            scaled: Tensor = self.scale(x[torch.randperm(len(x), generator=generator)[:_SAMPLES]])
            return scaled

        dead, progress = self.objective.dead, self.step / self.total_steps
        dead.look_()
        dead.on_epoch_start_(self.objective.model, self.optimizer, Moment(self.epoch, progress, samples, generator))

    @contextmanager
    def _on_the_scale_of_training(self) -> Iterator[None]:
        model = self.objective.model
        model.train().scale = Scale()
        try:
            with torch.enable_grad():
                yield
        finally:
            model.eval().scale = self.scale
