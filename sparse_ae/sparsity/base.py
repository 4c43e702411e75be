"""What every sparsity method keeps to: an activation, named loss terms, and a buffer per coefficient."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, NamedTuple, Protocol

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from sparse_ae.functional import Reduction

Coefficient = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Forward(NamedTuple):
    """One pass through a sparse autoencoder."""

    x: Tensor
    """Input ``(B, D)``."""
    pre: Tensor
    """Pre-activations ``(B, N)``."""
    z: Tensor
    """Codes ``(B, N)``."""
    x_hat: Tensor
    """Reconstruction ``(B, D)``."""


class Decoder(Protocol):
    """What a loss term may ask of the decoder."""

    def decode(self, z: Tensor) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``."""

    def atom_norms(self) -> Tensor:
        """|atom_i|_2, ``(N,)``; only where ``has_atoms``."""


class Sparsity(nn.Module, ABC):
    """``z = activate(pre)`` and ``loss = reconstruction + sum_t coefficient_t * losses()[t]``.

    A method is one subclass in one file: its activation and its loss terms together. Both are vmap-safe: no
    data-dependent Python branch, no ``.item()``, and whatever number may differ between two runs is a buffer.
    """

    requires_atoms = False
    """Whether the losses read ``decoder.atom_norms()``, which only a linear decoder has."""

    def __init__(
        self,
        coefficients: Mapping[str, float],
        *,
        reduction: Reduction,
        warmup_steps: NonNegativeInt = 0,
    ) -> None:
        """``coefficients`` names the loss terms and gives each its weight; ``reduction`` holds for the reconstruction
        too, so that the two conventions cannot be mixed; ``warmup_steps`` is how long a training schedule takes to
        raise the coefficients from 0.
        """
        super().__init__()
        self.reduction = reduction
        self.warmup_steps = warmup_steps
        self.full_coefficients = dict(coefficients)
        for term, value in coefficients.items():
            self.register_buffer(f"{term}_coefficient", torch.tensor(float(value)))

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """The scalar buffer that weighs each term; write to it in place to steer it."""
        return {term: self.get_buffer(f"{term}_coefficient") for term in self.full_coefficients}

    @abstractmethod
    def activate(self, pre: Tensor) -> Tensor:
        """Pre-activations ``(B, N)`` to codes ``(B, N)``."""

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        """Unweighted scalar terms, one for each coefficient."""
        return {}
