"""What training minimises, and all the state that follows it: a model, its dead units and its target."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparse_ae.dead import DeadUnits
from sparse_ae.functional import reconstruction_error
from sparse_ae.models import SparseAutoencoder
from sparse_ae.sparsity import Forward
from sparse_ae.targets import Target


class Loss(NamedTuple):
    """What is minimised, and what it is made of; all scalars but ``forward``."""

    loss: Tensor
    """recon + sum_t coefficient_t * terms[t]."""
    recon: Tensor
    terms: dict[str, Tensor]
    """Raw, before their coefficients."""
    forward: Forward
    """The pass that it was computed from."""


class Objective(nn.Module):
    """loss = reconstruction + sum_t coefficient_t * term_t, the terms of the sparsity method and of ``dead``.

    Calling it changes nothing, so that it may be evaluated as often as one likes; ``schedule_`` before and ``observe_``
    after each training step move what changes with training. Raises ``ValueError`` if ``dead`` needs atoms and the
    network has none, or if there is nothing for ``target`` to steer.
    """

    def __init__(
        self, model: SparseAutoencoder, dead: DeadUnits, target: Target | None = None, *, threshold: float = 0.1
    ) -> None:
        """``threshold`` is what a code has to exceed to be active."""
        super().__init__()
        if dead.requires_atoms and not model.network.has_atoms:
            raise ValueError(
                f"dead: {type(dead).__name__} works on the atoms of a linear decoder, and "
                f"{type(model.network).__name__} has none (allowed: dead=none, or model=linear)"
            )
        self.model = model
        self.dead = dead
        self.target = target
        if target is not None:
            target.begin_(model.sparsity, threshold)

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """The scalar buffer that weighs each term."""
        return self.model.sparsity.coefficients | self.dead.coefficients

    def forward(self, x: Tensor, target: Tensor) -> Loss:
        """The loss on ``x (B, D)``; ``target (B, D)`` differs from it when denoising."""
        sparsity, network = self.model.sparsity, self.model.network
        forward: Forward = self.model(x, target)
        recon = reconstruction_error(forward.x_hat, target, sparsity.reduction)
        terms = sparsity.losses(forward, network) | self.dead.losses(forward, network)
        coefficients = self.coefficients
        loss = recon
        for name, term in terms.items():
            loss = loss + coefficients[name] * term
        return Loss(loss, recon, terms, forward)

    @property
    def is_scheduled(self) -> bool:
        """Whether ``schedule_`` has anything to do."""
        return self.model.sparsity.is_scheduled or self.target is not None

    @property
    def needs_an_end(self) -> bool:
        """Whether something is scheduled over a share of all steps."""
        return self.model.sparsity.needs_an_end or (self.target is not None and self.target.needs_an_end)

    def schedule_(self, step: int, total_steps: float) -> None:
        """Set what is a function of the steps taken so far."""
        self.model.sparsity.schedule_(step, total_steps)
        if self.target is not None:
            self.target.schedule_(self.model.sparsity, step, total_steps)

    @torch.no_grad()
    def observe_(self, loss: Loss) -> None:
        """Follow a training batch, once its gradient is computed."""
        sparsity = self.model.sparsity
        sparsity.observe_(loss.forward)
        self.dead.observe_(loss.forward)
        if self.target is not None:
            self.target.observe_(sparsity, loss.forward, loss.recon, loss.terms)

    def validated_(self, metrics: Mapping[str, float]) -> None:
        """Follow a validation."""
        self.model.sparsity.validated_(metrics)
        if self.target is not None:
            self.target.validated_(self.model.sparsity, metrics)
