"""Base class of sparsity methods, and what the parts of an objective exchange with training.

Shapes: B samples, D input dimensions, N units (``latent_dim``). Training may run R models as one stack: then every
tensor, parameters and buffers too, has R as its first dimension, and a scalar is ``(R,)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Protocol

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction

Coefficient = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Forward(NamedTuple):
    """One pass of a training batch through a sparse autoencoder."""

    x: Tensor
    """Input ``(B, D)``."""
    target: Tensor
    """Data to reconstruct ``(B, D)``; differs from ``x`` when denoising."""
    pre: Tensor
    """Pre-activations ``(B, N)``."""
    z: Tensor
    """Codes ``(B, N)``."""
    x_hat: Tensor
    """Reconstruction ``(B, D)``."""


class Loss(NamedTuple):
    """Training loss and its parts; all scalars but ``forward``, or one number for each model of a stack."""

    loss: Tensor
    """recon + sum_t coefficient_t * terms[t]."""
    recon: Tensor
    """Reconstruction error."""
    terms: dict[str, Tensor]
    """Loss terms by name, before their coefficients."""
    forward: Forward
    """Forward pass that the loss was computed from."""


class TrainingData(NamedTuple):
    """Statistics of the training split, for initialisation before the first step."""

    sample: Tensor
    """Training samples ``(B, D)``."""
    mean: Tensor
    """Mean of all training samples ``(D,)``."""
    shape: tuple[int, ...]
    """Shape of one sample: (C, H, W) of an image, D = C H W, or (D,) of a vector."""
    samples_per_epoch: int
    """Number of training samples that this process sees in an epoch."""


class Part(nn.Module):
    """Part of an objective (network, sparsity method, dead units, target) with the hooks of training, in call order.

    Every hook does nothing unless a subclass overrides it. State that follows training is in buffers or extra state.
    """

    @property
    def needs_an_end(self) -> bool:
        """True if ``on_step_start_`` needs a finite number of steps."""
        return False

    def setup_(self, data: TrainingData) -> None:
        """Initialise from the training data, once, before a checkpoint is restored."""

    def on_step_start_(self, step: int, total_steps: float) -> None:
        """Apply schedules before a batch. ``step`` counts the optimizer steps taken, of ``total_steps``."""

    def on_backward_end_(self, loss: Loss) -> None:
        """Update running state from a batch, after its backward pass. vmap-safe."""

    def on_before_optimizer_step_(self) -> None:
        """Project gradients onto the tangent of the constraint set, before clipping."""

    def on_step_end_(self) -> None:
        """Project parameters onto the constraint set, after an optimizer step."""

    def on_validation_end_(self, metrics: Mapping[str, float]) -> None:
        """Update running state from a validation's ``val/...`` metrics."""


class Decoder(Protocol):
    """Decoder as loss terms see it."""

    has_atoms: bool
    """True if it is linear, ``x_hat = z @ atoms + bias``."""

    @property
    def unit_bias(self) -> Tensor | None:
        """Bias that enters each unit's pre-activation as a summand, ``(N,)``; None if there is none."""

    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Map codes ``(B, N)`` to reconstructions ``(B, D)``. Outside of ``support (B, N)`` the codes are 0 and need no
        gradient.
        """

    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """``decode``, with a gradient to the codes alone."""

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        """z @ atoms[units] ``(B, D)``, without a bias, from the codes ``(B, m)`` of m units; only where
        ``has_atoms``.
        """

    def decode_prefix(self, z: Tensor, width: int, support: Tensor | None = None) -> Tensor:
        """Reconstruction ``(B, D)`` from the first ``width`` units."""

    def atom_norms(self) -> Tensor:
        """|atom_i|_2, ``(N,)``; only where ``has_atoms``."""


class Traits(NamedTuple):
    """Capabilities of a sparsity method that other parts ask for. Contract tests check each against behaviour."""

    steered: str | None = None
    """Term whose coefficient makes codes sparser the larger it is; None if no coefficient does."""
    needs_atoms: bool = False
    """True if the losses need ``decoder.atom_norms()``, which only a linear decoder has."""
    couples_samples: bool = False
    """True if the samples of a training batch compete, so that a sample alone is coded by another rule."""
    learns_threshold: bool = False
    """True if ``on_backward_end_`` moves a threshold by which ``activate`` codes a sample alone."""
    code_range: tuple[float, float] | None = None
    """Interval at both ends of which the activation saturates, if there is one."""


class Sparsity(Part, ABC):
    """``z = activate(pre)`` and ``loss = reconstruction + sum_t coefficient_t * losses()[t]``.

    A method is one subclass in one file: its activation and its loss terms together. All of it runs on stacks: no
    data-dependent Python branch, no ``.item()``, every number that may differ between models is a buffer, and
    reductions name their dims from the end. Evaluating the loss changes no state; only the hooks of ``Part`` do.
    """

    traits: Traits = Traits()
    """Capabilities of the method; options of an instance may change them."""

    def __init__(
        self,
        coefficients: Mapping[str, float],
        *,
        latent_dim: PositiveInt,
        reduction: Reduction,
        warmup_steps: NonNegativeInt = 0,
    ) -> None:
        """``coefficients`` names the loss terms and weighs each. ``reduction`` holds for the reconstruction too, so
        that the two conventions cannot be mixed. The steered coefficient rises from 0 over ``warmup_steps``.
        """
        super().__init__()
        self.latent_dim = latent_dim
        self.reduction = reduction
        self.warmup_steps = warmup_steps
        self.terms: list[str] = []
        """Names of the loss terms."""
        for term, value in coefficients.items():
            self.add_term_(term, value)

    def add_term_(self, name: str, coefficient: float) -> None:
        """Add a loss term, the buffer that weighs it, and one with the coefficient that was asked for."""
        self.terms.append(name)
        self.register_buffer(f"{name}_coefficient", torch.tensor(float(coefficient)))
        self.register_buffer(f"{name}_full", torch.tensor(float(coefficient)), persistent=False)

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """Scalar buffers that weigh the terms, by name; write to one in place to steer it."""
        return {term: self.get_buffer(f"{term}_coefficient") for term in self.terms}

    @property
    def full_coefficients(self) -> dict[str, Tensor]:
        """Coefficients that were asked for, which schedules lead to, by name."""
        return {term: self.get_buffer(f"{term}_full") for term in self.terms}

    @abstractmethod
    def activate(self, pre: Tensor) -> Tensor:
        """Map pre-activations ``(B, N)`` to codes ``(B, N)``, each sample independently."""

    def activate_batch(self, pre: Tensor) -> Tensor:
        """Map pre-activations ``(B, N)`` to the codes ``(B, N)`` of training, where samples may compete."""
        return self.activate(pre)

    def support(self, pre: Tensor, z: Tensor) -> Tensor:
        """Boolean ``(B, N)``, True where codes may differ from 0 or get a gradient from the reconstruction."""
        return z != 0

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        """Unweighted scalar terms, one for each coefficient."""
        return {}

    @torch.no_grad()
    def on_step_start_(self, step: int, total_steps: float) -> None:
        """coefficient(t) = full * min(1, (t + 1) / warmup_steps) for the steered term: a pure function of the step, so
        that a resumed run continues exactly.
        """
        steered = self.traits.steered
        if steered is not None and self.warmup_steps and step <= self.warmup_steps:
            factor = min(1.0, (step + 1) / self.warmup_steps)
            self.coefficients[steered].copy_(self.full_coefficients[steered] * factor)

    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        """Re-initialise per-unit state of ``units``, an index. Returns the parameters written, ``(N, ...)``."""
        return []

    def lower_thresholds_(self, units: Tensor) -> None:
        """Lower by a little the thresholds of ``units``, boolean ``(N,)``, that only the gradient of a loss moves."""

    @property
    def learning_rates(self) -> dict[str, float]:
        """Multiples of the optimizer's learning rate, by parameter name; 1 for all others."""
        return {}

    def check_target(self) -> None:
        """Raise ``ConfigError`` if the options of this instance rule out a target for its sparsity."""

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        """Constructor arguments that give ``l0`` active units of ``latent_dim``; empty if a coefficient is steered.

        Raises ``ConfigError`` for an ``l0`` that the method cannot have.
        """
        if cls.traits.steered is None:
            reason = f"{cls.__name__} has no sparsity to set; choose another sparsity=, or target=none"
            raise ConfigError("l0", l0, reason)
        return {}


def check_units(name: str, value: int, latent_dim: int) -> int:
    """Return ``value``. Raises ``ConfigError`` unless it is a number of units, 1 to ``latent_dim``."""
    if not 1 <= value <= latent_dim:
        raise ConfigError(name, value, "not a number of units", f"1 to model.latent_dim={latent_dim}")
    return value


def whole_units(l0: float, latent_dim: int) -> int:
    """Return ``l0`` as a number of units to keep. Raises ``ConfigError`` unless it is a whole one, up to
    ``latent_dim``.
    """
    if l0 != int(l0) or not 1 <= l0 <= latent_dim:
        raise ConfigError("l0", f"{l0:g}", "not a whole number of units", f"1 to model.latent_dim={latent_dim}")
    return int(l0)
