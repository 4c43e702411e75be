"""K-SVD: a dictionary learned by coding the data with OMP and refitting one atom at a time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_ae.coders.base import IterativeLearner
from sparse_ae.coders.baselines import DataAtoms, check_atoms
from sparse_ae.coders.checks import check_count, check_data
from sparse_ae.coders.omp import OMP, Selection, SparseCodes, check_selection, sparse_codes
from sparse_ae.coders.preprocessing import scale, unit

DUPLICATE_ABOVE = 0.99
"""Two atoms with a larger |cosine| are one atom twice."""


class KSVDState(NamedTuple):
    """What a fit knows after an epoch: tensors and numbers, to be saved and continued from."""

    atoms: Tensor
    """Unit-norm atoms ``(N, D)``."""
    mean: Tensor
    """What was subtracted from the data, ``(D,)``."""
    memory: Tensor
    """Energy of each atom's coefficients in the batches before, fading, ``(N,)``; of data over their ``scale``."""
    epoch: int
    """Epochs done."""
    fvu: float
    """Error left over the variance of the training data, as the epoch went along; NaN before the first."""
    replaced: int
    """Atoms replaced at the end of the epoch."""


class KSVD(IterativeLearner):
    """Learns ``latent_dim`` atoms that code centred data with ``n_nonzero`` each; ``fit`` returns the ``OMP`` on them.

    Each epoch codes the data with OMP, and then refits one atom after the other to what the rest leave of the samples
    that use it, coefficients included (``update_atom_``). At its end, atoms that no sample used and all but one of
    those that are alike (|cosine| > 0.99) are replaced by the samples represented worst.

    ``batch_size=None`` codes all data before it updates: the original. With mini-batches, drawn anew each epoch, atoms
    move many times an epoch and weigh a batch against those before, which fade at ``forgetting`` per batch.

    Sources: M. Aharon, M. Elad, A. Bruckstein, "K-SVD: an algorithm for designing overcomplete dictionaries for sparse
    representation", IEEE TSP 2006; for the update, Rubinstein, Zibulevsky and Elad, see ``omp``.
    """

    state_type = KSVDState

    def __init__(
        self,
        latent_dim: int,
        n_nonzero: int,
        epochs: int = 30,
        batch_size: int | None = None,
        forgetting: float = 0.1,
        selection: Selection = "correlation",
        seed: int = 0,
    ) -> None:
        check_selection(selection)
        check_count("latent_dim", latent_dim)
        check_count("n_nonzero", n_nonzero, latent_dim)
        check_count("epochs", epochs)
        if batch_size is not None:
            check_count("batch_size", batch_size)
        if not 0 < forgetting <= 1:
            raise ValueError(f"forgetting={forgetting} (allowed: above 0, at most 1)")
        self.latent_dim = latent_dim
        self.n_nonzero = n_nonzero
        self.epochs = epochs
        self.batch_size = batch_size
        self.forgetting = forgetting
        self.selection: Selection = selection
        self.seed = seed

    def check(self, samples: int, dim: int) -> None:
        """Raises ``ValueError`` for more atoms than samples."""
        check_atoms(self.latent_dim, samples)

    def fit(
        self, x: Tensor, state: KSVDState | None = None, callback: Callable[[KSVDState], None] | None = None
    ) -> OMP:
        """Fit to ``x (B, D)``, from ``state`` on where one is given: what it then learns is what it would have.

        ``callback`` is told the state after each epoch. Raises ``ValueError`` if x is not finite, or has fewer samples
        that are not zero than there are atoms, or if the state is of another number of atoms.
        """
        state = state or self.start(x)
        if len(state.atoms) != self.latent_dim:
            raise ValueError(f"latent_dim={self.latent_dim}: the state has {len(state.atoms)} atoms (allowed: as many)")
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
        """The state before the first epoch: samples as atoms."""
        null = DataAtoms(self.latent_dim, self.n_nonzero, seed=self.seed).fit(x)
        memory = null.dictionary.new_zeros(self.latent_dim)
        return KSVDState(null.dictionary, null.mean, memory, epoch=0, fvu=float("nan"), replaced=0)

    @staticmethod
    def progress(state: KSVDState) -> tuple[int, dict[str, float]]:
        return state.epoch, {"fvu": state.fvu, "replaced": state.replaced}

    def _epoch(self, centred: Tensor, total: float, state: KSVDState) -> KSVDState:
        n = len(centred)
        atoms, memory = state.atoms.clone(), state.memory.clone()
        uses = torch.zeros(len(atoms), dtype=torch.int64, device=atoms.device)
        error = centred.new_zeros(n)
        for rows in _order(n, self.seed, state.epoch, centred.device).split(self.batch_size or n):
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
    """Refits every atom, in place, to the samples that use it; how many those are, int64 ``(N,)``.

    ``codes`` and ``residual (B, D)`` = data - codes @ atoms change with the ``atoms (N, D)``; ``memory (N,)`` gains the
    energy of each atom's coefficients.
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
    """d <- E^T g / |E^T g|, g <- E d, where E = residual + g d^T: the new g ``(n,)`` and residual ``(n, D)``.

    ``atom d (D,)`` changes in place, for the n samples that use it with coefficients ``g (n,)``, of either sign. With a
    ``memory``, the energy that earlier coefficients had, d moves less: E^T g + memory d is what is normalised; d stays
    where that is 0. Neither step can increase |residual|^2: each is the best, or on the way to it, with the other held.
    """
    before = atom.clone()
    memory += g.square().sum()
    direction = torch.addmv(memory * before, residual.T, g)
    length = direction.norm()
    atom.copy_(torch.where(length > 0, direction / length, before))  # coefficients may have no square left in float32
    new = torch.addmv(g * (before @ atom), residual, atom)
    change = torch.stack([g, -new], dim=1) @ torch.stack([before, atom])
    return new, residual.add_(change)


def replace_(atoms: Tensor, uses: Tensor, x: Tensor, error: Tensor) -> Tensor:
    """Puts the samples ``x (B, D)`` of largest ``error (B,)`` where atoms are unused or alike; which, ``(R,)``.

    Of atoms that are alike, the one used most stays. A sample like an atom that is there is passed over; fewer atoms
    are replaced where fewer samples have an error.
    """
    by_use = uses.argsort(descending=True, stable=True)
    alike = (atoms[by_use] @ atoms[by_use].T).abs().tril_(-1).amax(dim=1) > DUPLICATE_ABOVE
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


def _order(n: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """A permutation that depends on (seed, epoch) alone, so that a fit that is continued draws the same batches."""
    mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed)).to(device)
