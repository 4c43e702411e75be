"""Base class of networks: an encoder and a decoder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_ae.sparsity import Part

Correction = Callable[[Tensor, Tensor], Tensor]
"""Maps codes ``(B, N)`` and their support, boolean ``(B, N)``, to better pre-activations ``(B, N)``."""


class Network(Part, ABC):
    """``pre = encode(x)``, ``x_hat = decode(z)``; between the two stands a ``Sparsity``.

    ``input_dim`` D and ``latent_dim`` N are the sizes of data and code.
    """

    codes_in_steps = False
    """True if ``corrections`` has any, so that codes are activated several times."""
    sets_sparsity = False
    """True if ``encode`` gives codes that are sparse, so that no method can make them so."""
    has_atoms = False
    """True if the decoder is linear, ``x_hat = z @ atoms + bias``, so that ``atom_norms`` exists."""
    refine_steps = 0
    """Number of steps in which ``refine`` improves the codes of a trained model."""

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.latent_dim = latent_dim

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ``ConfigError`` if samples of ``shape`` cannot be trained on. Needs no data."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Map data ``(B, D)`` to pre-activations ``(B, N)``."""

    def corrections(self, x: Tensor) -> Sequence[Correction]:
        """Steps that refine the codes of ``x``, each between two activations."""
        return ()

    @abstractmethod
    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Map codes ``(B, N)`` to reconstructions ``(B, D)``. Outside of ``support (B, N)`` the codes are 0 and need no
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
        """Atoms ``(N, D)``: the output of each unit alone."""

    def atom_norms(self) -> Tensor:
        """|atom_i|_2, ``(N,)``, differentiable. Raises ``TypeError`` unless ``has_atoms``."""
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atom norms")

    @abstractmethod
    def decoder_norms(self) -> Tensor:
        """|w_i|_2 of the decoder weights that read unit i, ``(N,)``."""

    def combine(self, z: Tensor, units: Tensor) -> Tensor:
        """z @ atoms[units] ``(B, D)``, without a bias, from the codes ``(B, m)`` of m units.

        Raises ``TypeError`` unless ``has_atoms``.
        """
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atoms to combine")

    def replace_units_(self, units: Tensor, x: Tensor, scale: float) -> list[nn.Parameter]:
        """Make each of ``units``, an index, a detector of its row of ``x (len(units), D)``.

        Its encoder weights get ``scale`` times the mean norm of the other units'. Returns the parameters that were
        written, ``(N, ...)``. Raises ``TypeError`` unless ``has_atoms``.
        """
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atoms to replace")

    @property
    def unit_bias(self) -> Tensor | None:
        """Bias that enters each unit's pre-activation as a summand, ``(N,)``; None if there is none."""
        return None

    @property
    def learning_rates(self) -> dict[str, float]:
        """Multiples of the optimizer's learning rate, by parameter name; 1 for all others."""
        return {}

    def refine(self, x: Tensor, z: Tensor) -> Tensor:
        """Improve the codes ``z (B, N)`` of ``x`` after training, where the network can; codes at 0 stay at 0."""
        return z
