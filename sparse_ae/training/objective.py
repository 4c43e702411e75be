"""Training objective: a model, its dead units and its target, with one loss and one set of hooks."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_ae.config.errors import ConfigError
from sparse_ae.dead import DeadUnits
from sparse_ae.functional import reconstruction_error
from sparse_ae.models import SparseAutoencoder
from sparse_ae.sparsity import Forward, Loss, Part, TrainingData
from sparse_ae.targets import Target


class Objective(nn.Module):
    """loss = reconstruction + sum_t coefficient_t * term_t, the terms of the sparsity method and of ``dead``.

    Evaluating it changes no state. The hooks do, each of which calls the hook of that name of every part: network,
    sparsity method, dead units, target. ``train_step_`` is a whole step; ``training.module`` takes the same one with
    Lightning. Raises ``ConfigError`` if ``dead`` needs what the network does not have, atoms or pre-activations of
    units that do not fire, or if ``target`` has nothing to steer.

    >>> from sparse_ae.models import MLP
    >>> from sparse_ae.sparsity import L1
    >>> objective = Objective(SparseAutoencoder(MLP(784), L1()))
    >>> optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    >>> x = torch.rand(128, 784)
    >>> losses = [objective.train_step_(optimizer, x, step=step, total_steps=20).loss for step in range(20)]
    >>> bool(losses[-1] < losses[0])
    True
    """

    def __init__(
        self,
        model: SparseAutoencoder,
        dead: DeadUnits | None = None,
        target: Target | None = None,
        *,
        threshold: float = 0.1,
    ) -> None:
        """A code is active above ``threshold``."""
        super().__init__()
        dead = dead or DeadUnits(latent_dim=model.network.latent_dim)
        if dead.requires_atoms and not model.network.has_atoms:
            network = type(model.network).__name__
            reason = f"{type(dead).__name__} works on the atoms of a linear decoder, and {network} has none"
            raise ConfigError("dead", reason=reason, expected="dead=none, or model=linear")
        if dead.requires_pre and model.network.sets_sparsity:
            network = type(model.network).__name__
            reason = f"{type(dead).__name__} trains what dead units would say, and in {network} they say nothing"
            raise ConfigError("dead", reason=reason, expected="dead=resample or none")
        self.model = model
        self.dead = dead
        self.target = target
        if target is not None:
            target.attach_(model.sparsity, threshold)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Network, sparsity method, dead units and target, if there is one."""
        parts = (self.model.network, self.model.sparsity, self.dead)
        return parts if self.target is None else (*parts, self.target)

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """Scalar buffers that weigh the terms, by name."""
        return self.model.sparsity.coefficients | self.dead.coefficients

    def forward(self, x: Tensor, target: Tensor) -> Loss:
        """Loss on ``x (B, D)``; ``target (B, D)`` differs from it when denoising."""
        sparsity, network = self.model.sparsity, self.model.network
        forward: Forward = self.model(x, target)
        recon = reconstruction_error(forward.x_hat, target, sparsity.reduction)
        terms = sparsity.losses(forward, network) | self.dead.losses(forward, network)
        coefficients = self.coefficients
        loss = recon
        for name, term in terms.items():
            loss = loss + coefficients[name] * term
        return Loss(loss, recon, terms, forward)

    def train_step_(
        self, optimizer: Optimizer, x: Tensor, target: Tensor | None = None, *, step: int, total_steps: float
    ) -> Loss:
        """Take one training step on ``x (B, D)`` without Lightning. Call ``setup_`` before the first.

        ``step`` counts the steps taken before, of ``total_steps``; ``target`` is ``x`` unless given.
        """
        self.on_step_start_(step, total_steps)
        loss: Loss = self(x, x if target is None else target)
        optimizer.zero_grad()
        loss.loss.backward()
        self.on_backward_end_(loss)
        self.on_before_optimizer_step_()
        optimizer.step()
        self.on_step_end_()
        return loss

    @property
    def needs_an_end(self) -> bool:
        """True if any part needs a finite number of steps."""
        return any(part.needs_an_end for part in self.parts)

    def setup_(self, data: TrainingData) -> None:
        """Initialise from the training data, before the first step."""
        for part in self.parts:
            part.setup_(data)

    def on_step_start_(self, step: int, total_steps: float) -> None:
        """Apply schedules, before a batch."""
        for part in self.parts:
            part.on_step_start_(step, total_steps)

    @torch.no_grad()
    def on_backward_end_(self, loss: Loss) -> None:
        """Update running state (thresholds, dead-unit counters, target), once the backward pass is done with it."""
        for part in self.parts:
            part.on_backward_end_(loss)
        self.dead.ease_(self.model, loss.forward.pre)

    def on_before_optimizer_step_(self) -> None:
        """Project gradients onto the tangent of the constraint set."""
        for part in self.parts:
            part.on_before_optimizer_step_()

    def on_step_end_(self) -> None:
        """Project parameters onto the constraint set."""
        for part in self.parts:
            part.on_step_end_()

    def on_validation_end_(self, metrics: Mapping[str, float]) -> None:
        """Update running state from a validation's ``val/...`` metrics."""
        for part in self.parts:
            part.on_validation_end_(metrics)
