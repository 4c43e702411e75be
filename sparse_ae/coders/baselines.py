"""Dictionaries that are drawn and not learned: the baselines that a learned one has to beat."""

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.coders.base import Learner
from sparse_ae.coders.checks import check_atoms, check_nonzero
from sparse_ae.coders.omp import OMP, Selection
from sparse_ae.coders.preprocessing import centre, unit
from sparse_ae.config.checked import checked


class _Baseline(Learner):
    """``latent_dim`` atoms, drawn by ``seed``; OMP codes each sample with ``n_nonzero`` of them."""

    @checked
    def __init__(
        self,
        latent_dim: PositiveInt = 1024,
        n_nonzero: PositiveInt = 32,
        selection: Selection = "correlation",
        seed: NonNegativeInt = 42,
    ) -> None:
        check_nonzero(n_nonzero, latent_dim)
        self.latent_dim = latent_dim
        self.n_nonzero = n_nonzero
        self.selection: Selection = selection
        self.seed = seed


class RandomAtoms(_Baseline):
    """atom_i = g_i / |g_i|, g_i ~ N(0, I): directions drawn by ``seed``. ``fit`` returns the ``OMP`` on them.

    >>> RandomAtoms(latent_dim=5, n_nonzero=1).fit(torch.eye(3)).dictionary.shape
    torch.Size([5, 3])
    """

    def fit(self, x: Tensor) -> OMP:
        """Draw the atoms; only the mean is taken from ``x (B, D)``."""
        _, mean = centre(x)
        generator = torch.Generator().manual_seed(self.seed)
        atoms = F.normalize(torch.randn(self.latent_dim, x.shape[1], generator=generator, dtype=torch.float64), dim=1)
        return OMP(atoms.to(x), k=self.n_nonzero, mean=mean, selection=self.selection)


class DataAtoms(_Baseline):
    """atom_i = (x_b - mean) / |x_b - mean| of samples b drawn by ``seed``. ``fit`` returns the ``OMP`` on them.

    >>> DataAtoms(latent_dim=2, n_nonzero=1).fit(torch.tensor([[0.0, 1.0], [0.0, 3.0]])).dictionary.abs()
    tensor([[0., 1.],
            [0., 1.]])
    """

    def check(self, samples: int, dim: int) -> None:
        """Raise ``ConfigError`` for more atoms than samples."""
        check_atoms(self.latent_dim, samples)

    def fit(self, x: Tensor) -> OMP:
        """Draw the atoms from ``x (B, D)``.

        Raises ``ConfigError`` for more atoms than samples that differ from their mean.
        """
        centred, mean = centre(x)
        usable = draw(x, centred, self.seed)[: self.latent_dim]
        check_atoms(self.latent_dim, len(usable))
        return OMP(unit(centred[usable]), k=self.n_nonzero, mean=mean, selection=self.selection)


def draw(x: Tensor, centred: Tensor, seed: int) -> Tensor:
    """Draw the order of the samples of ``x (B, D)`` that differ from their mean by more than rounding."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    differs = centred.abs().amax(dim=1) > 10 * torch.finfo(x.dtype).eps * x.abs().amax(dim=1)
    return order[differs[order]]
