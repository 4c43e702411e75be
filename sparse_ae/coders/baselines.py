"""Dictionaries that nothing was learned for: what a learned one has to be better than."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_ae.coders.base import Learner
from sparse_ae.coders.checks import check_count
from sparse_ae.coders.omp import OMP, Selection, check_selection
from sparse_ae.coders.preprocessing import centre, unit


class _Null(Learner):
    """``latent_dim`` atoms, drawn by ``seed``, that code with ``n_nonzero`` each."""

    def __init__(self, latent_dim: int, n_nonzero: int, selection: Selection = "correlation", seed: int = 0) -> None:
        check_count("latent_dim", latent_dim)
        check_count("n_nonzero", n_nonzero, latent_dim)
        check_selection(selection)
        self.selection: Selection = selection
        self.latent_dim = latent_dim
        self.n_nonzero = n_nonzero
        self.seed = seed


class RandomAtoms(_Null):
    """atom_i = g_i / |g_i|, g_i ~ N(0, I): directions drawn by ``seed``. ``fit`` returns the ``OMP`` on them."""

    def fit(self, x: Tensor) -> OMP:
        """Of ``x (B, D)`` it takes the mean."""
        _, mean = centre(x)
        generator = torch.Generator().manual_seed(self.seed)
        atoms = F.normalize(torch.randn(self.latent_dim, x.shape[1], generator=generator, dtype=torch.float64), dim=1)
        return OMP(atoms.to(x), k=self.n_nonzero, mean=mean, selection=self.selection)


class DataAtoms(_Null):
    """atom_i = (x_b - mean) / |x_b - mean| of samples b drawn by ``seed``. ``fit`` returns the ``OMP`` on them."""

    def check(self, samples: int, dim: int) -> None:
        """Raises ``ValueError`` for more atoms than samples."""
        check_atoms(self.latent_dim, samples)

    def fit(self, x: Tensor) -> OMP:
        """Draws from ``x (B, D)``. Raises ``ValueError`` if fewer than N samples differ from their mean."""
        centred, mean = centre(x)
        usable = draw(x, centred, self.seed)[: self.latent_dim]
        check_atoms(self.latent_dim, len(usable))
        return OMP(unit(centred[usable]), k=self.n_nonzero, mean=mean, selection=self.selection)


def check_atoms(latent_dim: int, samples: int) -> None:
    """Raises ``ValueError`` where so many samples that differ from their mean are too few to be atoms."""
    if samples < latent_dim:
        given = f"latent_dim={latent_dim}: x has {samples} samples that differ from their mean"
        raise ValueError(f"{given} (allowed: at most as many)")


def draw(x: Tensor, centred: Tensor, seed: int) -> Tensor:
    """The samples of ``x (B, D)`` that differ from their mean by more than rounding, in an order drawn by ``seed``."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    differs = centred.abs().amax(dim=1) > 10 * torch.finfo(x.dtype).eps * x.abs().amax(dim=1)
    return order[differs[order]]
