"""What every encoder/decoder pair keeps to."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """``pre = encode(x)``, ``x_hat = decode(z)``; what lies between the two is a ``Sparsity``'s.

    ``input_dim`` D and ``latent_dim`` N are the sizes of data and code.
    """

    has_atoms = False
    """Whether the decoder is linear, ``x_hat = z @ atoms + bias``, so that ``atom_norms`` exists."""

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.latent_dim = latent_dim

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to pre-activations ``(B, N)``."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``."""

    @property
    @abstractmethod
    def dictionary(self) -> Tensor:
        """Atoms ``(N, D)``: what each unit alone stands for."""

    def atom_norms(self) -> Tensor:
        """|atom_i|_2, ``(N,)``, differentiable. Raises ``TypeError`` unless ``has_atoms``."""
        raise TypeError(f"{type(self).__name__} has no linear decoder, so no atom norms")

    def fit_to_(self, sample: Tensor, mean: Tensor) -> None:
        """Set what is initialised from data: from a ``sample (B, D)`` of training images, and the ``mean (D,)`` of all.

        Called once, before the first step.
        """

    def before_step_(self) -> None:
        """Project gradients onto the constraint set. Called after every backward pass, before clipping."""

    def after_step_(self) -> None:
        """Project parameters onto the constraint set. Called after every optimizer step."""
