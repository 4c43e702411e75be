"""The atoms of a finished run under another coder: what its codes could be, if its encoder searched for them."""

from torch import Tensor

from sparse_ae.coders import OMP, L1Coder
from sparse_ae.coders.omp import Selection
from sparse_ae.export import load
from sparse_ae.models import SparseAutoencoder


def omp(run: str, n_nonzero: int, selection: Selection) -> OMP:
    """``OMP`` with ``n_nonzero`` atoms a sample on the atoms of ``run``, a run's folder, around what it decodes no code
    to. Raises ``ValueError`` if that is no finished run, or one whose decoder is not linear.
    """
    atoms, mean = _dictionary(run)
    try:
        return OMP(atoms, n_nonzero, mean=mean, selection=selection)
    except ValueError as error:
        raise ValueError(f"n_nonzero={n_nonzero}: {error}") from error


def l1(run: str, penalty: float, steps: int, tolerance: float, positive: bool, momentum: bool) -> L1Coder:
    """``L1Coder`` on the atoms of ``run``; what is raised: see ``omp``."""
    atoms, mean = _dictionary(run)
    return L1Coder(atoms, penalty, steps, tolerance, positive, momentum, mean)


def _dictionary(run: str) -> tuple[Tensor, Tensor]:
    """Atoms ``(N, D)`` and what they are added to, ``(D,)``."""
    coder = load(run)
    if isinstance(coder, SparseAutoencoder) and not coder.network.has_atoms:
        kind = type(coder.network).__name__
        raise ValueError(f"run={run}: {kind}'s decoder is no dictionary (allowed: a run with a linear decoder)")
    atoms = coder.dictionary.detach()
    return atoms, coder.decode(atoms.new_zeros(1, len(atoms))).detach()[0]
