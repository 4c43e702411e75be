"""Principal component analysis: the linear code with the least squared error of its size."""

from typing import Any

import torch
from torch import Tensor

from sparse_ae.coders.base import DictionaryCoder, Learner
from sparse_ae.coders.checks import check_count, check_data
from sparse_ae.coders.preprocessing import centre


class Projection(DictionaryCoder):
    """z = (x - mean) @ dictionary.T: dense codes."""

    @property
    def arguments(self) -> dict[str, Any]:
        return {}

    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to codes ``(B, N)``."""
        check_data(x, self.dictionary)
        z: Tensor = (x - self.mean) @ self.dictionary.T
        return z


class PCA(Learner):
    """The ``latent_dim`` directions of largest variance, largest first; ``fit`` returns the ``Projection`` on them.

    They are orthonormal, and each one's largest entry is positive.
    """

    def __init__(self, latent_dim: int) -> None:
        check_count("latent_dim", latent_dim)
        self.latent_dim = latent_dim

    def check(self, samples: int, dim: int) -> None:
        """Raises ``ValueError`` for more components than dimensions."""
        if self.latent_dim > dim:
            raise ValueError(f"latent_dim={self.latent_dim}: PCA has 1 to D={dim} components")

    def fit(self, x: Tensor) -> Projection:
        """Fit to ``x (B, D)``, by an eigendecomposition of its covariance in float64. Raises ``ValueError`` for more
        components than dimensions, and if x is empty or not finite.
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
