"""The atoms of a finished run under another coder: what its codes could be, if its encoder searched for them."""

import hashlib
from pathlib import Path

from hydra.utils import to_absolute_path
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from sparse_ae.coders import OMP, L1Coder
from sparse_ae.coders.checks import check_dictionary
from sparse_ae.coders.omp import Selection
from sparse_ae.config.errors import ConfigError
from sparse_ae.models import SparseAutoencoder
from sparse_ae.runs.directory import Run
from sparse_ae.runs.export import load


def omp(run: str, atoms: str | None, n_nonzero: PositiveInt, selection: Selection) -> OMP:
    """``OMP`` with ``n_nonzero`` atoms a sample on the atoms of ``run``, a run's folder, around what it decodes no code
    to. Raises ``ValueError`` if that has no model, one whose decoder is not linear, or whose atoms are no dictionary;
    and unless ``atoms`` is the ``digest`` of its weights.
    """
    dictionary, mean = _dictionary(run, atoms)
    if n_nonzero > len(dictionary):
        raise ConfigError("n_nonzero", n_nonzero, "more than there are atoms", f"1 to {len(dictionary)}")
    return OMP(dictionary, n_nonzero, mean=mean, selection=selection)


def l1(
    run: str,
    atoms: str | None,
    penalty: NonNegativeFloat,
    steps: PositiveInt,
    tolerance: NonNegativeFloat,
    positive: bool,
    momentum: bool,
) -> L1Coder:
    """``L1Coder`` on the atoms of ``run``; what is raised: see ``omp``."""
    dictionary, mean = _dictionary(run, atoms)
    return L1Coder(dictionary, penalty, steps, tolerance, positive, momentum, mean)


def digest(run: str | None) -> str | None:
    """Eight hex digits that tell the weights of ``run`` from all others; None if there are none."""
    if run is None or not (file := Run(_found(run)).weights).is_file():
        return None
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def _found(run: str) -> str:
    """Where the run is, also when Hydra has changed the working directory."""
    path = to_absolute_path(run)
    return path if Path(path).is_dir() else run


def _dictionary(run: str, atoms: str | None) -> tuple[Tensor, Tensor]:
    """Atoms ``(N, D)`` and what they are added to, ``(D,)``."""
    if run == "???":
        raise ValueError("run=???: is required (allowed: a run's folder, such as outputs/default/<run>)")
    coder = load(_found(run))
    if digest(run) != atoms:
        raise ValueError(f"atoms={atoms}: {run} has other weights, {digest(run)} (allowed: to leave it out)")
    if isinstance(coder, SparseAutoencoder) and not coder.network.has_atoms:
        kind = type(coder.network).__name__
        raise ValueError(f"run={run}: {kind}'s decoder is no dictionary (allowed: a run with a linear decoder)")
    dictionary = coder.dictionary.detach()
    try:
        check_dictionary(dictionary)
    except ValueError as error:
        raise ValueError(f"run={run}: {error}") from error
    return dictionary, coder.decode(dictionary.new_zeros(1, len(dictionary))).detach()[0]
