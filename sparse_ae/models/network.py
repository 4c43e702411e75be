"""What every encoder/decoder pair keeps to."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Activation(NamedTuple):
    """What a sparsity method makes of pre-activations."""

    codes: Callable[[Tensor], Tensor]
    """Pre-activations ``(B, N)`` to codes ``(B, N)``."""
    support: Callable[[Tensor, Tensor], Tensor]
    """Pre-activations and their codes to where those may differ from 0 or need a gradient, boolean ``(B, N)``."""


class Network(nn.Module, ABC):
    """``pre = encode(x)``, ``x_hat = decode(z)``; what lies between the two is a ``Sparsity``'s.

    ``input_dim`` D and ``latent_dim`` N are the sizes of data and code.
    """

    codes_in_steps = False
    """Whether ``encode`` activates codes on its way."""
    has_atoms = False
    """Whether the decoder is linear, ``x_hat = z @ atoms + bias``, so that ``atom_norms`` exists."""

    refine_steps = 0
    """How often ``refine`` improves the codes of a trained model."""

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.latent_dim = latent_dim

    @abstractmethod
    def encode(self, x: Tensor, activate: Activation) -> Tensor:
        """Data ``(B, D)`` to pre-activations ``(B, N)``; ``activate``, the method's own, is for encoders that refine
        codes in steps. What it makes of the result is the code.
        """

    @abstractmethod
    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``. Outside of ``support (B, N)`` the codes are 0 and need no
        gradient, which saves most of the work where that is sparse.
        """

    @abstractmethod
    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """``decode``, with a gradient to the codes and none to the decoder's parameters."""

    def decode_prefix(self, z: Tensor, width: int, support: Tensor | None = None) -> Tensor:
        """``decode`` with all but the first ``width`` units at 0."""
        return self.decode(F.pad(z[..., :width], (0, self.latent_dim - width)), support)

    @property
    @abstractmethod
    def dictionary(self) -> Tensor:
        """Atoms ``(N, D)``: what each unit alone stands for."""

    def atom_norms(self) -> Tensor:
        """|atom_i|_2, ``(N,)``, differentiable. Raises ``TypeError`` unless ``has_atoms``."""
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atom norms")

    @abstractmethod
    def decoder_norms(self) -> Tensor:
        """|w_i|_2 of the weights that read unit i, ``(N,)``: what a code can be traded for."""

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        """z @ atoms[units] ``(B, D)``, without a bias, from the codes ``(B, m)`` of m units.

        Raises ``TypeError`` unless ``has_atoms``.
        """
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atoms to combine")

    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        """Make of each of ``units``, an index, a detector of its row of ``x (len(units), D)``, whose encoder weights
        have ``scale`` times the mean norm of the other units'. Returns the parameters that were written, ``(N, ...)``.

        Raises ``TypeError`` unless ``has_atoms``.
        """
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atoms to replace")

    def fit_to_(self, sample: Tensor, mean: Tensor, shape: tuple[int, ...]) -> None:
        """Set what is initialised from data: from a ``sample (B, D)`` of training images, and the ``mean (D,)`` of all.

        ``shape`` is that of one image, D = C H W. Called once, before the first step.
        """

    @property
    def learning_rates(self) -> dict[str, float]:
        """Parameters, by name, that learn at so many times the optimizer's rate."""
        return {}

    def refine(self, x: Tensor, z: Tensor) -> Tensor:
        """Codes ``(B, N)`` of ``x``, as training leaves them, made better where the network can; those at 0 stay so."""
        return z

    def before_step_(self) -> None:
        """Project gradients onto the constraint set. Called after every backward pass, before clipping."""

    def after_step_(self) -> None:
        """Project parameters onto the constraint set. Called after every optimizer step."""
