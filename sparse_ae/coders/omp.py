"""Orthogonal matching pursuit on a dictionary: all samples at once, on CPU and GPU.

Shapes: B samples, D values per sample, N atoms, k atoms per code. In a pursuit: C samples still searching, t atoms
chosen so far.
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from sparse_ae.coders.base import DictionaryCoder
from sparse_ae.config.checked import checked
from sparse_ae.config.errors import ConfigError

Selection = Literal["correlation", "error"]
"""Choice of the next atom. ``correlation``: the atom most similar to the residual (OMP). ``error``: the atom that
leaves the least error once all coefficients are refitted (optimised OMP, also called orthogonal least squares)."""

DEFAULT_K = 32
"""Non-zeros per sample of an ``OMP`` that is told neither ``k`` nor ``tolerance``."""

_GRAM_VALUES = 2**26
"""Largest number of products of two atoms that are kept, 256 MB, unless there are more values in all atoms."""

_WIDTH = 32
"""Columns of the table in which a row of scores is searched; torch does not vectorise fewer."""


class SparseCodes(NamedTuple):
    """Codes stored by their non-zeros. A sample that needs fewer than k has zero coefficients at arbitrary atoms."""

    atom: Tensor
    """Indices of atoms, int64 ``(B, k)``."""
    value: Tensor
    """Coefficients of the atoms ``(B, k)``."""

    def dense(self, n_atoms: int) -> Tensor:
        """Return the codes as a dense ``(B, n_atoms)``.

        >>> SparseCodes(torch.tensor([[2, 0]]), torch.tensor([[5.0, 1.0]])).dense(4)
        tensor([[1., 0., 5., 0.]])
        """
        return self.value.new_zeros(len(self.value), n_atoms).scatter_add_(1, self.atom, self.value)


class OMP(DictionaryCoder):
    """z_b = least squares fit of x_b - mean on atoms chosen one by one, each the best for the residual.

    ``dictionary (N, D)`` is any, e.g. a trained autoencoder's; atoms are compared at norm 1. A sample stops at ``k``
    atoms, or where its squared error |x_b - mean - z_b dictionary|^2 is at most ``tolerance``. Given neither, k is 32,
    or N if that is less. Both raise ``ConfigError``, and so does k > N.

    In float32 the error is known to 1e-6 |x_b|^2. A sample stops early where only rounding is left, or where the next
    atom depends linearly on its atoms: at norm 1, less than 100 eps of its energy is its own. In float32 that is a part
    of length 0.003, so use float64 for atoms that are nearly alike. Computed in at least float32, without gradients.

    With ``positive`` codes are not negative, as an autoencoder's: each atom is chosen among those that correlate
    positively. At the end atoms with a negative coefficient are left out and the others fitted anew, until there are
    none; ``tolerance`` is met before that.

    >>> OMP(torch.eye(3), k=1).encode(torch.tensor([[1.0, -4.0, 2.0]]))
    tensor([[ 0., -4.,  0.]])
    >>> OMP(torch.eye(3), tolerance=1.0).encode(torch.tensor([[1.0, -4.0, 2.0]]))
    tensor([[ 0., -4.,  2.]])
    """

    @checked
    def __init__(
        self,
        dictionary: Tensor,
        k: PositiveInt | None = None,
        tolerance: NonNegativeFloat | None = None,
        mean: Tensor | None = None,
        selection: Selection = "correlation",
        positive: bool = False,
    ) -> None:
        super().__init__(dictionary, mean)
        n_atoms = len(dictionary)
        if k is not None and tolerance is not None:
            raise ConfigError("k", k, f"given beside tolerance={tolerance}; only one can end a pursuit")
        if k is not None and k > n_atoms:
            raise ConfigError("k", k, "more than there are atoms", f"1 to {n_atoms}")
        self.k = min(DEFAULT_K, n_atoms) if k is None and tolerance is None else k
        self.tolerance = tolerance
        self.selection: Selection = selection
        self.positive = positive

    @property
    def arguments(self) -> dict[str, Any]:
        return {"k": self.k, "tolerance": self.tolerance, "selection": self.selection, "positive": self.positive}

    def encode_centred(self, x: Tensor) -> Tensor:
        codes = _pursue(x, self.atoms, self.k, self.tolerance, self.selection, self.positive)
        return codes.dense(len(self.atoms))


def sparse_codes(
    x: Tensor, atoms: Tensor, k: int, selection: Selection = "correlation", *, positive: bool = False
) -> SparseCodes:
    """OMP codes of centred data ``x (B, D)`` with ``k`` non-zeros on ``atoms (N, D)``; unchecked, for learners."""
    return _pursue(x, atoms, k, None, selection, positive)


@torch.no_grad()
def _pursue(
    x: Tensor, atoms: Tensor, k: int | None, tolerance: float | None, selection: Selection, positive: bool
) -> SparseCodes:
    """Scale everything to 1, pursue chunk by chunk, and scale back."""
    with torch.autocast(x.device.type, enabled=False):  # triangular factors need all digits
        dtype = torch.promote_types(x.dtype, torch.float32)
        atoms = atoms.to(dtype)
        # Before the norm, whose squares could over- or underflow.
        largest = _or_one(atoms.abs().amax(dim=1, keepdim=True))
        unit = atoms / largest
        length = _or_one(unit.norm(dim=1, keepdim=True))
        unit = unit / length
        gram = _Gram(unit)
        capacity = min(len(atoms), x.shape[1], len(atoms) if k is None else k)
        chunks = []
        for part in x.split(_chunk_size(len(atoms), capacity, x.device)):
            part = part.to(dtype)
            size = part.abs().amax(dim=1, keepdim=True)
            lost = torch.where(size.isfinite(), 0.0, torch.nan)  # a row that is not finite has no code, and shows it
            size = _or_one(size)
            stop_at = 0.0 if tolerance is None else tolerance / size.squeeze(1).double().square()
            part = part / size
            codes = _pursue_chunk(part, gram, capacity, stop_at, selection, positive)
            if positive:
                codes = _nonnegative(part, gram, codes)
            value = codes.value * size / (largest * length).squeeze(1)[codes.atom] + lost
            chunks.append(SparseCodes(codes.atom, value))
    if not chunks:
        return SparseCodes(x.new_zeros(0, capacity, dtype=torch.int64), x.new_zeros(0, capacity, dtype=dtype))
    return SparseCodes(torch.cat([c.atom for c in chunks]), torch.cat([c.value for c in chunks]))


def _or_one(size: Tensor) -> Tensor:
    """``size``, and 1 for a vector of length 0, which can be divided by."""
    return torch.where(size > 0, size, 1.0)


def _chunk_size(n_atoms: int, capacity: int, device: torch.device) -> int:
    """Number of samples per chunk. On a CPU a chunk's correlations (2.5 MB) stay in the cache."""
    correlations, triangles = (5 * 2**17, 2**27) if device.type == "cpu" else (2**26, 2**28)
    return max(min(correlations // n_atoms, triangles // capacity**2), 32)


class _Gram:
    """Products of the atoms ``unit (N, D)``, kept as ``(N, N)`` unless that is much larger than the atoms are."""

    def __init__(self, unit: Tensor) -> None:
        self.unit = unit
        self.whole = unit @ unit.T if len(unit) ** 2 <= max(_GRAM_VALUES, unit.numel()) else None

    def between(self, chosen: Tensor, i: Tensor) -> Tensor:
        """<a_j, a_i> of the atoms ``chosen (C, t)`` and ``i (C,)``, ``(C, t)``."""
        if self.whole is not None:
            return self.whole[chosen, i[:, None]]
        return (self.unit[chosen] @ self.unit[i][:, :, None]).squeeze(2)

    def among(self, chosen: Tensor) -> Tensor:
        """<a_i, a_j> of the atoms ``chosen (C, t)``, ``(C, t, t)``."""
        if self.whole is not None:
            return self.whole[chosen[:, :, None], chosen[:, None, :]]
        return self.unit[chosen] @ self.unit[chosen].mT

    def combined(self, chosen: Tensor, weight: Tensor) -> Tensor:
        """<sum_j weight_j a_j, a_i> for all atoms i, ``(C, N)``, from atoms and weights ``(C, t)``."""
        if self.whole is not None:
            return F.embedding_bag(chosen, self.whole, per_sample_weights=weight, mode="sum")
        return F.embedding_bag(chosen, self.unit, per_sample_weights=weight, mode="sum") @ self.unit.T


class _Pursuit(NamedTuple):
    """State of the C samples that are still searching; t of the k columns are filled."""

    row: Tensor
    """Indices of the samples in their chunk, ``(C,)``."""
    left: Tensor
    """Correlation of the residual with each atom, 0 for chosen atoms, ``(C, N)``."""
    new: Tensor
    """|a|^2 of the part of each atom orthogonal to all chosen atoms, ``(C, N)``; ``(C, 0)`` if not needed."""
    size: Tensor
    """Norm of the data |x|, ``(C,)``."""
    error: Tensor
    """Squared error |residual|^2, ``(C,)``."""
    stop_at: Tensor
    """Squared error at which to stop, ``(C,)``."""
    atom: Tensor
    """Indices of chosen atoms, ``(C, k)``."""
    value: Tensor
    """Coefficients of chosen atoms, ``(C, k)``."""
    inverse: Tensor
    """Inverse L^-1, lower triangular, where L L^T is the Gram matrix of the chosen atoms, ``(C, k, k)``."""


@torch.inference_mode()  # spares many small steps the bookkeeping of autograd
def _pursue_chunk(
    x: Tensor, gram: "_Gram", k: int, stop_at: Tensor | float, selection: Selection, positive: bool
) -> SparseCodes:
    """Batch OMP with a progressive Cholesky factor, kept as its inverse.

    With g the Gram column of the new atom i on those chosen before, w = L^-1 g and l = sqrt(1 - |w|^2), the factor's
    inverse gains the row (-w^T L^-1, 1) / l. That row is the new direction, orthonormal to those before it, in terms of
    the atoms. The residual contains left_i / l of it, so the coefficients gain (left_i / l) row. Its correlations with
    all atoms are a weighted sum of Gram rows: no (C, t, N) is ever gathered.

    Source: R. Rubinstein, M. Zibulevsky, M. Elad, "Efficient implementation of the K-SVD algorithm using batch
    orthogonal matching pursuit", CS Technion 2008, algorithm 3. For ``error``: L. Rebollo-Neira, D. Lowe, "Optimized
    orthogonal matching pursuit approach", IEEE Signal Processing Letters 2002.
    """
    n = len(x)
    eps = torch.finfo(x.dtype).eps
    dependent = 100 * eps
    done = SparseCodes(x.new_zeros(n, k, dtype=torch.int64), x.new_zeros(n, k))
    by_error = selection == "error"
    error = torch.linalg.vecdot(x, x)
    now = _Pursuit(
        torch.arange(n, device=x.device),
        x @ gram.unit.T,
        x.new_ones(n, len(gram.unit) if by_error else 0),
        error.sqrt(),
        error,
        torch.as_tensor(stop_at, dtype=x.dtype, device=x.device).expand(n),
        done.atom.clone(),
        done.value.clone(),
        x.new_zeros(n, k, k),
    )
    going = now.error > now.stop_at
    for t in range(k):
        count = int(going.sum())
        if count <= len(going) // 2:  # drop the finished half
            now = _retire(now, going, done)
            going = going[going]
        if count == 0:
            break
        score = now.left
        if by_error:
            score = F.threshold(now.new, dependent, torch.inf, inplace=True).rsqrt().mul_(now.left)
        largest, i = _largest(score, positive)
        going = going & (largest > 8 * eps * (now.size + now.value.abs().sum(dim=1)))
        inverse = now.inverse[:, :t, :t]
        w = gram.between(now.atom[:, :t], i)[:, None] @ inverse.mT  # as rows: small products of columns are far slower
        distance = 1 - torch.linalg.vecdot(w, w).squeeze(1)
        going = going & (distance > dependent)
        l_inverse = torch.where(going, distance, torch.inf).rsqrt()[
            :, None
        ]  # 0 for stopped samples, which then do not change
        now.atom[:, t] = i
        direction = now.inverse[:, t, : t + 1]
        direction[:, :t] = (w @ inverse).squeeze(1) * -l_inverse
        direction[:, t:] = l_inverse
        gain = now.left.gather(1, i[:, None]) * l_inverse
        now.value[:, : t + 1].addcmul_(gain, direction)
        if t + 1 < k:
            chosen = now.atom[:, : t + 1]
            like = gram.combined(chosen, direction)
            now.left.addcmul_(like, gain, value=-1).scatter_(1, chosen, 0.0)
            if by_error:
                now.new.addcmul_(like, like, value=-1)
            now.error.sub_(gain.squeeze(1).square())
            going = going & (now.error > now.stop_at)
    _retire(now, going, done)
    return done


@torch.inference_mode()
def _nonnegative(x: Tensor, gram: "_Gram", codes: SparseCodes) -> SparseCodes:
    """Leave out atoms with a negative coefficient and fit the others anew, until there are none."""
    row = (codes.value < 0).any(dim=1).nonzero().squeeze(1)
    atom, value = codes.atom[row], codes.value[row]
    similar = F.linear(x[row], gram.unit).gather(1, atom)
    products = gram.among(atom)
    alone = torch.eye(atom.shape[1], dtype=x.dtype, device=x.device)
    while bool((value < 0).any()):
        kept = value > 0
        both = kept[:, :, None] & kept[:, None, :]
        value = torch.linalg.solve(torch.where(both, products, alone), torch.where(kept, similar, 0.0))
    return SparseCodes(codes.atom, codes.value.index_copy(0, row, value))


def _largest(score: Tensor, positive: bool) -> tuple[Tensor, Tensor]:
    """Return the largest |score|, or score if ``positive``, of each row and its place, both ``(C,)``; of equal
    ones, the first.

    On a CPU a maximum with its place takes ten times as long as one without. Hence the row is folded into a table,
    and the place is sought in one row of that.
    """
    n = score.shape[1]
    if score.device.type != "cpu" or n % _WIDTH:
        largest, place = (score if positive else score.abs()).max(dim=1)
        return largest, place
    table = score.view(-1, n // _WIDTH, _WIDTH)
    best = table.amax(dim=2)
    row = (best if positive else torch.maximum(best, -table.amin(dim=2))).max(dim=1).indices
    chosen = table[torch.arange(len(table)), row]
    largest, column = (chosen if positive else chosen.abs()).max(dim=1)
    return largest, row * _WIDTH + column


def _retire(now: _Pursuit, going: Tensor, done: SparseCodes) -> _Pursuit:
    """Write all codes into ``done`` and return the state of the samples that are still ``going``."""
    done.atom[now.row] = now.atom
    done.value[now.row] = now.value
    return _Pursuit(*(field[going] for field in now))
