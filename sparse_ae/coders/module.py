"""Base class of coders that are modules: the one place where data and codes of users are checked and converted."""

import itertools
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sparse_ae.coders.checks import as_floats, check_finite
from sparse_ae.config.errors import UserError
from sparse_ae.data.scale import Scale


class CoderModule(nn.Module, ABC):
    """``Coder`` of samples with D values as codes of N units; subclasses say how rows are coded.

    ``encode`` and ``decode`` take a user's tensors, in the data's own unit, and check, convert and scale them.
    ``encode_rows`` and ``decode_rows`` are what a subclass adds: rows in, rows out, unchecked, on the scale that is
    trained on.
    """

    input_shape: tuple[int, ...]
    """Shape of one sample: ``(C, H, W)`` for images, else ``(D,)``. ``load`` sets the one of the training data."""
    takes_integers: bool
    """True if the training data were integers, as which ``encode`` then takes them too."""
    scale: Scale
    """From the data's own unit to the scale that is trained on; set when training has ended."""

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.latent_dim = latent_dim
        self.input_shape = (input_dim,)
        self.takes_integers = False
        self.scale = Scale()

    def encode(self, x: Tensor) -> Tensor:
        """Encode samples ``(..., D)``, or ``(..., *input_shape)`` such as images, as codes ``(..., N)``.

        x is in the units of the training data, for images floats in [0, 1]. Any type of float is converted to that of
        the coder's weights, and codes come in that type. There may be no samples, or one without a dimension of its
        own. Raises ``UserError`` for other sizes, integers where the training data were none, values that are not
        finite, and another device.
        """
        expected = "floats on the scale of the training data, such as x / 255"
        x = as_floats("x", x, self._weight, expected, integers=self.takes_integers)
        leading = self._leading(x)
        check_finite("x", x)
        z = self.encode_rows(self.scale(x.reshape(-1, self.input_dim)))
        return z.reshape(*leading, self.latent_dim)

    def decode(self, z: Tensor, *, shaped: bool = False) -> Tensor:
        """Decode codes ``(..., N)`` to samples ``(..., D)``, or with ``shaped`` to ``(..., *input_shape)``.

        Codes do not tell in which of the two shapes their samples came. The type is that of the coder's weights. NaN
        stays NaN. Raises ``UserError`` for another number of codes, integers, and another device.
        """
        z = as_floats("z", z, self._weight, "floats")
        if z.ndim == 0 or z.shape[-1] != self.latent_dim:
            raise UserError("z", reason=_found(z, "codes"), expected=f"{self.latent_dim}, one for each unit")
        x_hat = self.scale.inverse(self.decode_rows(z.reshape(-1, self.latent_dim)))
        return x_hat.reshape(*z.shape[:-1], *(self.input_shape if shaped else (self.input_dim,)))

    @abstractmethod
    def encode_rows(self, x: Tensor) -> Tensor:
        """Encode data ``(B, D)`` as codes ``(B, N)``, each sample independently. Unchecked."""

    @abstractmethod
    def decode_rows(self, z: Tensor) -> Tensor:
        """Decode codes ``(B, N)`` to reconstructions ``(B, D)``. Unchecked."""

    @property
    @abstractmethod
    def dictionary(self) -> Tensor:
        """Atoms ``(N, D)`` in the data's own unit."""

    @property
    def _weight(self) -> Tensor:
        return next(itertools.chain(self.parameters(), self.buffers()))

    def _leading(self, x: Tensor) -> torch.Size:
        """Dimensions of ``x`` before those of a sample. Rows come first: an image may be as wide as it has values."""
        if x.ndim and x.shape[-1] == self.input_dim:
            return x.shape[:-1]
        if x.shape[-len(self.input_shape) :] == self.input_shape:
            return x.shape[: -len(self.input_shape)]
        images = f", or samples of shape {self.input_shape}" if len(self.input_shape) > 1 else ""
        raise UserError("x", reason=_found(x, "values"), expected=f"{self.input_dim}{images}")


def _found(x: Tensor, what: str) -> str:
    if x.ndim == 0:
        return f"a single number has no {what} per sample"
    return f"{x.shape[-1]} {what} per sample in shape {tuple(x.shape)}"
