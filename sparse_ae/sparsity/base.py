"""What every sparsity method keeps to: an activation, named loss terms, and a buffer per coefficient."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from sparse_ae.functional import Reduction

Coefficient = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Forward(NamedTuple):
    """One pass of a training batch through a sparse autoencoder."""

    x: Tensor
    """Input ``(B, D)``."""
    target: Tensor
    """What to reconstruct ``(B, D)``; differs from ``x`` when denoising."""
    pre: Tensor
    """Pre-activations ``(B, N)``."""
    z: Tensor
    """Codes ``(B, N)``."""
    x_hat: Tensor
    """Reconstruction ``(B, D)``."""


class Decoder(Protocol):
    """What a loss term may ask of the decoder."""

    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``. Outside of ``support (B, N)`` the codes are 0 and need no
        gradient.
        """

    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """The same, with a gradient to the codes alone."""

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        """z @ atoms[units] ``(B, D)``, without a bias, from the codes ``(B, m)`` of m units; only where
        ``has_atoms``.
        """

    def decode_prefix(self, z: Tensor, width: int, support: Tensor | None = None) -> Tensor:
        """The reconstruction ``(B, D)`` from the first ``width`` units."""

    def atom_norms(self) -> Tensor:
        """|atom_i|_2, ``(N,)``; only where ``has_atoms``."""


class Sparsity(nn.Module, ABC):
    """``z = activate(pre)`` and ``loss = reconstruction + sum_t coefficient_t * losses()[t]``.

    A method is one subclass in one file: its activation and its loss terms together. All of it is vmap-safe: no
    data-dependent Python branch, no ``.item()``, and what weighs a term or follows training is a buffer.
    Evaluating the loss changes nothing; what follows training, such as a threshold, is moved by ``observe_`` and
    ``validated_`` alone.
    """

    requires_atoms = False
    """Whether the losses read ``decoder.atom_norms()``, which only a linear decoder has."""
    steered: str | None = None
    """The term whose coefficient makes the codes sparser the larger it is; None if the sparsity is set directly."""
    couples_samples: ClassVar[bool] = False
    """Whether in training the samples of a batch are coded together, and later each by a threshold learned there."""
    any_density: str | None = None
    """The option that lets a sample alone have any number of active units, whatever training keeps."""
    code_range: ClassVar[tuple[float, float] | None] = None
    """Where the activation saturates on both sides, if it does."""

    def __init__(
        self,
        coefficients: Mapping[str, float],
        *,
        latent_dim: PositiveInt,
        reduction: Reduction,
        warmup_steps: NonNegativeInt = 0,
    ) -> None:
        """``coefficients`` names the loss terms and gives each its weight; ``latent_dim`` is N; ``reduction`` holds for
        the reconstruction too, so that the two conventions cannot be mixed; ``warmup_steps`` is how long the
        steered coefficient takes to rise from 0.
        """
        super().__init__()
        self.latent_dim = latent_dim
        self.reduction = reduction
        self.warmup_steps = warmup_steps
        self.full_coefficients: dict[str, float] = {}
        for term, value in coefficients.items():
            self.add_term_(term, value)

    def add_term_(self, name: str, coefficient: float) -> None:
        """One more loss term, and what weighs it."""
        self.full_coefficients[name] = coefficient
        self.register_buffer(f"{name}_coefficient", torch.tensor(float(coefficient)))

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """The scalar buffer that weighs each term; write to it in place to steer it."""
        return {term: self.get_buffer(f"{term}_coefficient") for term in self.full_coefficients}

    @abstractmethod
    def activate(self, pre: Tensor) -> Tensor:
        """Pre-activations ``(B, N)`` to codes ``(B, N)``, each sample's from its own alone."""

    def activate_batch(self, pre: Tensor) -> Tensor:
        """The codes ``(B, N)`` that training uses, where the samples of a batch may compete."""
        return self.activate(pre)

    def support(self, pre: Tensor, z: Tensor) -> Tensor:
        """Where codes may differ from 0, or get a gradient from the reconstruction, boolean ``(B, N)``."""
        return z != 0

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        """Unweighted scalar terms, one for each coefficient."""
        return {}

    @torch.no_grad()
    def schedule_(self, step: int, total_steps: float) -> None:
        """Set what is a function of the optimizer steps taken so far: coefficient(t) = full * min(1, (t + 1) / warmup).

        A pure function, so that a resumed run goes on where it was.
        """
        if self.steered is not None and self.warmup_steps and step <= self.warmup_steps:
            factor = min(1.0, (step + 1) / self.warmup_steps)
            self.coefficients[self.steered].fill_(self.full_coefficients[self.steered] * factor)

    def observe_(self, forward: Forward) -> None:
        """Follow a training batch with the buffers that do. Called once for each, after its backward pass."""

    def validated_(self, metrics: Mapping[str, float]) -> None:
        """Follow a validation, with its ``val/...`` metrics."""

    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        """Start anew what is learned for each of ``units``, an index; returns those parameters, ``(N, ...)``."""
        return []

    @property
    def learning_rates(self) -> dict[str, float]:
        """Parameters, by name, that learn at so many times the optimizer's rate."""
        return {}

    @property
    def is_scheduled(self) -> bool:
        """Whether ``schedule_`` has anything to set."""
        return self.warmup_steps > 0

    @property
    def needs_an_end(self) -> bool:
        """Whether ``schedule_`` needs to know how many steps there are."""
        return False

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        """The constructor's arguments that give ``l0`` active units of ``latent_dim``; none if a coefficient is steered
        there. Raises ``ValueError`` for an ``l0`` that the method cannot have.
        """
        if cls.steered is None:
            raise ValueError(f"{cls.__name__} has no sparsity to set (allowed: another sparsity=, or target=none)")
        return {}


def check_units(name: str, value: int, latent_dim: int) -> int:
    """``value``, a number of units. Raises ``ValueError`` unless there are so many."""
    if not 1 <= value <= latent_dim:
        raise ValueError(f"{name}={value}: is no number of units (allowed: 1 to model.latent_dim={latent_dim})")
    return value


def whole_units(l0: float, latent_dim: int) -> int:
    """``l0`` as a number of units that can be kept. Raises ``ValueError`` unless it is one."""
    if l0 != int(l0) or not 1 <= l0 <= latent_dim:
        raise ValueError(
            f"{l0:g} active units: a whole number of them is kept (allowed: 1 to model.latent_dim={latent_dim})"
        )
    return int(l0)
