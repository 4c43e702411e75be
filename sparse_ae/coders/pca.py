"""Principal component analysis: the linear code with the least squared error of its size."""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.coders.base import DictionaryCoder, Learner
from sparse_ae.coders.preprocessing import centre
from sparse_ae.config.checked import checked
from sparse_ae.config.errors import ConfigError


class Projection(DictionaryCoder):
    """z = (x - mean) @ dictionary.T: dense codes.

    >>> coder = Projection(torch.eye(3)[:2])
    >>> coder.encode(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 2.]])
    """

    @property
    def arguments(self) -> dict[str, Any]:
        return {}

    def encode_centred(self, x: Tensor) -> Tensor:
        return x @ self.atoms.T


class PCA(Learner):
    """Directions of largest variance, ``latent_dim`` of them, largest first; ``fit`` returns the ``Projection``.

    The directions are orthonormal, and the largest entry of each is positive.

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    >>> PCA(latent_dim=1).fit(x).encode(x)
    tensor([[-2.],
            [ 0.],
            [ 2.]])
    """

    @checked
    def __init__(self, latent_dim: PositiveInt = 32) -> None:
        self.latent_dim = latent_dim

    def check(self, samples: int, dim: int) -> None:
        """Raise ``ConfigError`` for more components than dimensions."""
        if self.latent_dim > dim:
            raise ConfigError("latent_dim", self.latent_dim, "more components than dimensions", f"1 to {dim}")

    def fit(self, x: Tensor) -> Projection:
        """Fit to ``x (B, D)``, by an eigendecomposition of its covariance in float64.

        Raises ``ConfigError`` for more components than dimensions, ``UserError`` if x is empty or not finite.
        """
        _, mean = centre(x)
        self.check(*x.shape)
        second = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
        for part in x.split(10_000):
            centred = part.double() - mean
            second += centred.T @ centred
        _, directions = torch.linalg.eigh(second / len(x))
        atoms = directions.T.flip(0)[: self.latent_dim]
        largest = atoms.gather(1, atoms.abs().argmax(dim=1, keepdim=True))
        return Projection((atoms * largest.sign()).to(x.dtype), mean)
