"""K-SVD: a dictionary learned by coding the data with OMP and refitting one atom at a time."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.coders.base import IterativeLearner
from sparse_ae.coders.baselines import DataAtoms
from sparse_ae.coders.checks import check_atoms, check_data, check_nonzero, check_samples
from sparse_ae.coders.omp import OMP, Selection, SparseCodes, sparse_codes
from sparse_ae.coders.preprocessing import scale, unit
from sparse_ae.config.checked import checked
from sparse_ae.config.errors import UserError
from sparse_ae.functional import blockwise, epoch_order

DUPLICATE_ABOVE = 0.99
"""Duplicate atoms have a larger |cosine|."""


class KSVDState(NamedTuple):
    """State of a fit after an epoch: tensors and numbers, to save and to resume from."""

    atoms: Tensor
    """Unit-norm atoms ``(N, D)``."""
    mean: Tensor
    """Mean of the data, ``(D,)``."""
    memory: Tensor
    """Decayed energy of each atom's coefficients in earlier batches, ``(N,)``, for data divided by their ``scale``."""
    epoch: int
    """Number of epochs done."""
    fvu: float
    """Squared error over the variance of the training data, measured during the epoch; NaN before the first."""
    replaced: int
    """Number of atoms replaced at the end of the epoch."""


class KSVD(IterativeLearner):
    """Learns ``latent_dim`` atoms that code centred data with ``n_nonzero`` each; ``fit`` returns the ``OMP`` on them.

    Each epoch codes the data with OMP. It then refits one atom after the other, with its coefficients, to the residual
    that the other atoms leave of the samples using it (``update_atom_``). Finally unused atoms, and all but one of
    duplicates (|cosine| > 0.99), are replaced by the samples with the largest errors.

    ``batch_size=None`` codes all data before the update, as in the paper. With mini-batches, drawn by (seed, epoch),
    atoms move many times per epoch. Earlier batches weigh in the update, and decay by ``forgetting`` per batch.

    Sources: M. Aharon, M. Elad, A. Bruckstein, "K-SVD: an algorithm for designing overcomplete dictionaries for sparse
    representation", IEEE TSP 2006; for the update, Rubinstein, Zibulevsky and Elad, see ``omp``.

    >>> x = torch.tensor([[2.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]])
    >>> coder = KSVD(latent_dim=2, n_nonzero=1, epochs=2).fit(x)
    >>> coder.dictionary.shape, coder.encode(x).count_nonzero(dim=1).tolist()
    (torch.Size([2, 2]), [1, 1, 1, 1, 1])
    """

    state_type = KSVDState

    @checked
    def __init__(
        self,
        latent_dim: PositiveInt = 1024,
        n_nonzero: PositiveInt = 32,
        epochs: PositiveInt = 30,
        batch_size: PositiveInt | None = None,
        forgetting: Annotated[float, Field(gt=0, le=1)] = 0.1,
        selection: Selection = "correlation",
        seed: NonNegativeInt = 42,
    ) -> None:
        check_nonzero(n_nonzero, latent_dim)
        self.latent_dim = latent_dim
        self.n_nonzero = n_nonzero
        self.epochs = epochs
        self.batch_size = batch_size
        self.forgetting = forgetting
        self.selection: Selection = selection
        self.seed = seed

    def check(self, samples: int, dim: int) -> None:
        """Raise ``ConfigError`` for more atoms than samples."""
        check_atoms(self.latent_dim, samples)

    def fit(
        self, x: Tensor, state: KSVDState | None = None, callback: Callable[[KSVDState], None] | None = None
    ) -> OMP:
        """Fit to ``x (B, D)``. Resuming from the ``state`` of an epoch gives the same result as not stopping.

        ``callback`` receives the state after each epoch. Raises ``ConfigError`` for more atoms than samples that differ
        from their mean, ``UserError`` if x is empty or not finite or the state is of another number of atoms.
        """
        check_samples(x)
        state = state or self.start(x)
        if len(state.atoms) != self.latent_dim:
            raise UserError("state", reason=f"{len(state.atoms)} atoms", expected=f"latent_dim={self.latent_dim}")
        check_data(x, state.atoms)
        centred = x - state.mean
        centred /= scale(centred)
        total = float(centred.square().sum(dim=1).sum(dtype=torch.float64))
        while state.epoch < self.epochs:
            state = self._epoch(centred, total, state)
            if callback:
                callback(state)
        return OMP(state.atoms, k=self.n_nonzero, mean=state.mean, selection=self.selection)

    def start(self, x: Tensor) -> KSVDState:
        """Return the state before the first epoch, with samples as atoms."""
        initial = DataAtoms(self.latent_dim, self.n_nonzero, seed=self.seed).fit(x)
        memory = initial.atoms.new_zeros(self.latent_dim)
        return KSVDState(initial.atoms, initial.mean, memory, epoch=0, fvu=float("nan"), replaced=0)

    @staticmethod
    def progress(state: KSVDState) -> tuple[int, dict[str, float]]:
        return state.epoch, {"fvu": state.fvu, "replaced": state.replaced}

    def _epoch(self, centred: Tensor, total: float, state: KSVDState) -> KSVDState:
        n = len(centred)
        atoms, memory = state.atoms.clone(), state.memory.clone()
        uses = torch.zeros(len(atoms), dtype=torch.int64, device=atoms.device)
        error = centred.new_zeros(n)
        order = epoch_order(n, self.seed, state.epoch).to(centred.device)
        for rows in order.split(self.batch_size or n):
            batch = centred if len(rows) == n else centred[rows]
            codes = sparse_codes(batch, atoms, self.n_nonzero, self.selection)
            residual = batch - F.embedding_bag(codes.atom, atoms, per_sample_weights=codes.value, mode="sum")
            memory *= (1 - self.forgetting) if self.batch_size else 0.0
            uses += update_dictionary_(atoms, codes, residual, memory)
            error[rows if len(rows) < n else slice(None)] = residual.square().sum(dim=1)
        replaced = replace_(atoms, uses, centred, error)
        memory[replaced] = 0.0
        fvu = float(error.sum(dtype=torch.float64)) / total
        return KSVDState(atoms, state.mean, memory, state.epoch + 1, fvu, len(replaced))


def update_dictionary_(atoms: Tensor, codes: SparseCodes, residual: Tensor, memory: Tensor) -> Tensor:
    """Refit every atom in place to the samples that use it; return the number of uses of each, int64 ``(N,)``.

    ``codes``, ``residual (B, D)`` = data - codes @ atoms and ``atoms (N, D)`` are updated together. ``memory (N,)``
    gains the energy of each atom's coefficients.
    """
    k = codes.atom.shape[1]
    value = codes.value.view(-1)
    at = torch.arange(len(value), device=value.device)[value != 0]
    at = at[codes.atom.view(-1)[at].argsort(stable=True)]
    uses = torch.bincount(codes.atom.view(-1)[at], minlength=len(atoms))
    for j, entries in enumerate(at.split(uses.tolist())):
        if len(entries):
            rows = entries // k
            value[entries], part = update_atom_(atoms[j], value[entries], residual[rows], memory[j])
            residual[rows] = part
    return uses


def update_atom_(atom: Tensor, g: Tensor, residual: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """d <- E^T g / |E^T g|, g <- E d, where E = residual + g d^T; return the new g ``(n,)`` and residual ``(n, D)``.

    ``atom d (D,)`` is updated in place for the n samples that use it with coefficients ``g (n,)`` of either sign. A
    ``memory``, the energy of earlier coefficients, slows d down: E^T g + memory d is normalised. If that is 0, d stays.
    Neither step increases |residual|^2: each minimises it, or moves towards the minimum, with the other held fixed.
    """
    before = atom.clone()
    memory += g.square().sum()
    direction = torch.addmv(memory * before, residual.T, g)
    length = direction.norm()
    atom.copy_(torch.where(length > 0, direction / length, before))  # squares of coefficients may underflow
    new = torch.addmv(g * (before @ atom), residual, atom)
    change = torch.stack([g, -new], dim=1) @ torch.stack([before, atom])
    return new, residual.add_(change)


def replace_(atoms: Tensor, uses: Tensor, x: Tensor, error: Tensor) -> Tensor:
    """Replace unused and duplicate atoms by the samples ``x (B, D)`` of largest ``error (B,)``.

    Return the indices of replaced atoms ``(R,)``. Of duplicates, the one used most stays. Samples that duplicate an
    atom are skipped. Fewer atoms are replaced if fewer samples have an error.
    """
    by_use = uses.argsort(descending=True, stable=True)
    sorted_atoms = atoms[by_use]
    nearest = blockwise(
        len(atoms),
        len(atoms),
        lambda part: (sorted_atoms[part] @ sorted_atoms.T).abs().tril_(part.start - 1).amax(dim=1),
    )
    alike = nearest > DUPLICATE_ABOVE
    bad = by_use[alike | (uses[by_use] == 0)]
    worst = error.argsort(descending=True, stable=True)
    worst = worst[error[worst] > 100 * torch.finfo(x.dtype).eps * x.norm(dim=1).square()[worst]]
    kept = torch.ones(len(atoms), dtype=torch.bool, device=atoms.device)
    kept[bad] = False
    done = 0
    for sample in worst:
        if done == len(bad):
            break
        atom = unit(x[sample, None])[0]
        if not ((atoms @ atom).abs() > DUPLICATE_ABOVE)[kept].any():
            atoms[bad[done]], kept[bad[done]] = atom, True
            done += 1
    return bad[:done]
