"""Principal component analysis: the linear code with the least squared error of its size."""

import torch
from torch import Tensor


class PCA:
    """z = (x - mean) @ atoms.T, x_hat = z @ atoms + mean, the atoms the N directions of largest variance. A ``Coder``.

    The codes are dense and the atoms orthonormal, ordered by the variance ``(N,)`` along them; each atom's largest
    entry is positive. Raises ``ValueError`` for more components than dimensions.
    """

    def __init__(self, x: Tensor, latent_dim: int) -> None:
        """Fit to ``x (B, D)``, by an eigendecomposition of its covariance in float64."""
        if not 1 <= latent_dim <= x.shape[1]:
            raise ValueError(f"latent_dim={latent_dim}: PCA has 1 to D={x.shape[1]} components")
        self.mean = torch.stack([part.double().sum(dim=0) for part in x.split(10_000)]).sum(dim=0) / len(x)
        second = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
        for part in x.split(10_000):
            centred = part.double() - self.mean
            second += centred.T @ centred
        variance, directions = torch.linalg.eigh(second / len(x))
        atoms = directions.T.flip(0)[:latent_dim]
        largest = atoms.gather(1, atoms.abs().argmax(dim=1, keepdim=True))
        self.mean = self.mean.to(x.dtype)
        self.variance = variance.flip(0)[:latent_dim].clamp_min(0).to(x.dtype)
        self.dictionary = (atoms * largest.sign()).to(x.dtype)

    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to codes ``(B, N)``."""
        z: Tensor = (x - self.mean) @ self.dictionary.T
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``."""
        x_hat: Tensor = z @ self.dictionary + self.mean
        return x_hat
