"""Classical coders on the dictionary of a finished run: OMP or an L1 search instead of its own encoder."""

import hashlib
from pathlib import Path
from typing import TypeVar

from hydra.utils import to_absolute_path
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from sparse_ae.coders import OMP, CoderModule, DictionaryCoder, L1Coder
from sparse_ae.coders.checks import check_dictionary
from sparse_ae.coders.omp import Selection
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.models import SparseAutoencoder
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError
from sparse_ae.run.export import load

C = TypeVar("C", bound=CoderModule)


def omp(
    run: str = "???",
    atoms: str | None = None,
    n_nonzero: PositiveInt = 32,
    selection: Selection = "correlation",
    positive: bool = False,
) -> OMP:
    """``OMP`` with ``n_nonzero`` atoms per sample on the atoms of ``run``, a folder, around its decoded zero code.

    Raises ``RunError`` if the run has no model and ``ConfigError`` if its decoder is not linear, its atoms are not a
    dictionary, or ``atoms`` is not the ``digest`` of its weights.
    """
    coder, dictionary, mean = _atoms(run, atoms)
    if n_nonzero > len(dictionary):
        raise ConfigError("n_nonzero", n_nonzero, "more than the run has atoms", f"1 to {len(dictionary)}")
    return _scaled_as(coder, OMP(dictionary, n_nonzero, mean=mean, selection=selection, positive=positive))


def l1(
    run: str = "???",
    atoms: str | None = None,
    penalty: NonNegativeFloat = 0.5,
    steps: PositiveInt = 300,
    tolerance: NonNegativeFloat = 1e-4,
    positive: bool = False,
    momentum: bool = True,
) -> L1Coder:
    """``L1Coder`` on the atoms of ``run``. Raises as ``omp`` does."""
    coder, dictionary, mean = _atoms(run, atoms)
    return _scaled_as(coder, L1Coder(dictionary, penalty, steps, tolerance, positive, momentum, mean))


def digest(run: str | None) -> str | None:
    """Eight hex digits that identify the weights of ``run``; None if there are none."""
    if run is None or not (file := Run(_found(run)).weights).is_file():
        return None
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def _found(run: str) -> str:
    """Folder of the run, also when Hydra has changed the working directory."""
    path = to_absolute_path(run)
    return path if Path(path).is_dir() else run


def _scaled_as(coder: CoderModule, other: C) -> C:
    other.scale = coder.scale
    return other


def _atoms(run: str, atoms: str | None) -> tuple[CoderModule, Tensor, Tensor]:
    """The coder of a run; its atoms ``(N, D)`` and the reconstruction of a zero code ``(D,)``, as it was trained."""
    if run == "???":
        raise ConfigError("run", reason="is required", expected="a run's folder, such as outputs/default/<run>")
    try:
        coder = load(_found(run))
    except RunError as error:
        raise (ConfigError("run", run, error.reason, error.expected) if error.key == "run" else error) from error
    if digest(run) != atoms:
        raise ConfigError("atoms", atoms, f"{run} has other weights, {digest(run)}; leave this key out")
    if isinstance(coder, SparseAutoencoder) and not coder.network.has_atoms:
        kind = type(coder.network).__name__
        raise ConfigError("run", run, f"{kind}'s decoder is not a dictionary", "a run with a linear decoder")
    dictionary = (coder.atoms if isinstance(coder, DictionaryCoder) else coder.network.dictionary).detach()
    try:
        check_dictionary(dictionary)
    except UserError as error:
        raise ConfigError("run", run, error.reason, error.expected) from error
    return coder, dictionary, coder.decode_rows(dictionary.new_zeros(1, len(dictionary))).detach()[0]
