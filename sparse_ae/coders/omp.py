"""Orthogonal matching pursuit on a dictionary: all samples at once, on CPU and GPU."""

from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_ae.coders.base import DictionaryCoder
from sparse_ae.coders.checks import check_count, check_data, check_dictionary

Selection = Literal["correlation", "error"]
"""Which atom is next. ``correlation``: the one likest to the residual: OMP. ``error``: the one that leaves least of it
once refitted, so the likest by its part that is new: optimised OMP, also known as orthogonal least squares."""


_WIDTH = 32
"""Columns of the table that a row of scores is searched as: fewer would be no vectors to torch."""


class SparseCodes(NamedTuple):
    """Codes by their non-zeros. A sample that needs fewer than k has values 0, at any atom."""

    atom: Tensor
    """Atoms, int64 ``(B, k)``."""
    value: Tensor
    """Their coefficients ``(B, k)``."""

    def dense(self, n_atoms: int) -> Tensor:
        """The codes ``(B, n_atoms)``."""
        return self.value.new_zeros(len(self.value), n_atoms).scatter_add_(1, self.atom, self.value)


class OMP(DictionaryCoder):
    """z = OMP(x - mean), with ``k`` non-zeros or an error tolerance.

    ``dictionary`` is any, e.g. a trained autoencoder's. What is raised and what the tolerance means: see
    ``orthogonal_matching_pursuit``.
    """

    def __init__(
        self,
        dictionary: Tensor,
        k: int | None = None,
        tolerance: float | None = None,
        mean: Tensor | None = None,
        selection: Selection = "correlation",
    ) -> None:
        super().__init__(dictionary, mean)
        _check_stop(k, tolerance, len(dictionary))
        check_selection(selection)
        self.k = k
        self.tolerance = tolerance
        self.selection: Selection = selection

    @property
    def arguments(self) -> dict[str, Any]:
        return {"k": self.k, "tolerance": self.tolerance, "selection": self.selection}

    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to codes ``(B, N)``."""
        check_data(x, self.dictionary)
        return orthogonal_matching_pursuit(x - self.mean, self.dictionary, self.k, self.tolerance, self.selection)


def orthogonal_matching_pursuit(
    x: Tensor,
    atoms: Tensor,
    k: int | None = None,
    tolerance: float | None = None,
    selection: Selection = "correlation",
) -> Tensor:
    """z_b = the least squares fit of x_b on the atoms chosen one by one, each the best for what is left; ``(B, N)``.

    ``x (B, D)``, ``atoms (N, D)`` of any norms: they are compared at norm 1. A sample stops at ``k`` atoms or, the
    other way to ask, where its squared error |x_b - z_b atoms|^2 is at most ``tolerance``, as far as that is known: in
    float32 to 1e-6 |x_b|^2; earlier where nothing but rounding is left, or where the next atom depends linearly on
    those it has: at norm 1, less than 100 eps of its energy is its own. In float32 that is a part 0.003 long, so code
    on atoms that are nearly all alike in float64. Computed in at least float32; no gradient flows through it.

    Raises ``ValueError`` unless exactly one of k and tolerance is given, 1 <= k <= N, tolerance >= 0, x and atoms are
    finite and of the same D, and no atom is zero.
    """
    check_dictionary(atoms)
    check_data(x, atoms)
    _check_stop(k, tolerance, len(atoms))
    check_selection(selection)
    return _pursue(x, atoms, k, tolerance, selection).dense(len(atoms))


def sparse_codes(x: Tensor, atoms: Tensor, k: int, selection: Selection = "correlation") -> SparseCodes:
    """``orthogonal_matching_pursuit`` with ``k`` non-zeros, without the zeros or checks: for dictionaries learned."""
    return _pursue(x, atoms, k, None, selection)


def check_selection(selection: str) -> None:
    """Raises ``ValueError`` unless ``selection`` is one of ``Selection``."""
    if selection not in get_args(Selection):
        raise ValueError(f"selection={selection} (allowed: {', '.join(get_args(Selection))})")


def _check_stop(k: int | None, tolerance: float | None, n_atoms: int) -> None:
    if (k is None) == (tolerance is None):
        raise ValueError(f"k={k}, tolerance={tolerance}: exactly one of the two says where a pursuit stops")
    if k is not None:
        check_count("k", k, n_atoms)
    if tolerance is not None and not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance={tolerance}: the largest squared error of a sample (allowed: finite and >= 0)")


@torch.no_grad()
def _pursue(x: Tensor, atoms: Tensor, k: int | None, tolerance: float | None, selection: Selection) -> SparseCodes:
    """Scales everything to 1, pursues chunk by chunk, and scales back."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    atoms = atoms.to(dtype)
    largest = atoms.abs().amax(dim=1, keepdim=True)  # first, so that no square over- or underflows
    unit = atoms / largest
    length = unit.norm(dim=1, keepdim=True)
    unit = unit / length
    gram = unit @ unit.T
    capacity = min(len(atoms), x.shape[1], len(atoms) if k is None else k)
    chunks = []
    for part in x.split(_chunk_size(len(atoms), capacity, x.device)):
        part = part.to(dtype)
        size = part.abs().amax(dim=1, keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        allowed = 0.0 if tolerance is None else tolerance / size.squeeze(1).double().square()
        codes = _pursue_chunk(part / size, unit, gram, capacity, allowed, selection)
        value = codes.value * size / (largest * length).squeeze(1)[codes.atom]
        chunks.append(SparseCodes(codes.atom, value))
    if not chunks:
        return SparseCodes(x.new_zeros(0, capacity, dtype=torch.int64), x.new_zeros(0, capacity, dtype=dtype))
    return SparseCodes(torch.cat([c.atom for c in chunks]), torch.cat([c.value for c in chunks]))


def _chunk_size(n_atoms: int, capacity: int, device: torch.device) -> int:
    """Samples at a time: on a CPU, so few that a chunk's correlations (2.5 MB) stay in its cache."""
    correlations, triangles = (5 * 2**17, 2**27) if device.type == "cpu" else (2**26, 2**28)
    return max(min(correlations // n_atoms, triangles // capacity**2), 32)


class _Pursuit(NamedTuple):
    """What C samples that are still at it know; t of the k columns are filled."""

    row: Tensor
    """Which samples of the chunk, ``(C,)``."""
    left: Tensor
    """Correlation of the residual with each atom, 0 for the chosen, ``(C, N)``."""
    new: Tensor
    """|a|^2 of the part of each atom that no chosen one explains, ``(C, N)``; empty where nothing asks for it."""
    size: Tensor
    """|x|, ``(C,)``."""
    error: Tensor
    """|residual|^2, ``(C,)``."""
    allowed: Tensor
    """The error to stop at, ``(C,)``."""
    atom: Tensor
    """Chosen atoms, ``(C, k)``."""
    value: Tensor
    """Their coefficients, ``(C, k)``."""
    inverse: Tensor
    """L^-1, lower triangular, where L L^T is the Gram matrix of the chosen atoms, ``(C, k, k)``."""


@torch.inference_mode()  # saves what autograd notes of each of many small steps
def _pursue_chunk(
    x: Tensor, unit: Tensor, gram: Tensor, k: int, allowed: Tensor | float, selection: Selection
) -> SparseCodes:
    """Batch OMP with a progressive Cholesky factor, kept as its inverse.

    With g the Gram column of the new atom i on those chosen before, w = L^-1 g and l = sqrt(1 - |w|^2), the factor's
    inverse gains the row (-w^T L^-1, 1) / l. That row is the new direction, orthonormal to those before it, in terms of
    the atoms; the residual has left_i / l of it, so (left_i / l) row is what the coefficients gain. Its correlations
    with all atoms are a bag of weighted Gram rows: no (C, t, N) is ever gathered.

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
        x @ unit.T,
        x.new_ones(n, len(unit) if by_error else 0),
        error.sqrt(),
        error,
        torch.as_tensor(allowed, dtype=x.dtype, device=x.device).expand(n),
        done.atom.clone(),
        done.value.clone(),
        x.new_zeros(n, k, k),
    )
    going = now.error > now.allowed
    for t in range(k):
        count = int(going.sum())
        if count <= len(going) // 2:  # the rest would be carried along for nothing
            now = _retire(now, going, done)
            going = going[going]
        if count == 0:
            break
        score = now.left
        if by_error:
            score = F.threshold(now.new, dependent, torch.inf, inplace=True).rsqrt().mul_(now.left)
        largest, i = _largest(score)
        going = going & (largest > 8 * eps * (now.size + now.value.abs().sum(dim=1)))
        inverse = now.inverse[:, :t, :t]
        w = gram[now.atom[:, :t], i[:, None]][:, None] @ inverse.mT  # rows: small products of columns are far slower
        distance = 1 - torch.linalg.vecdot(w, w).squeeze(1)
        going = going & (distance > dependent)
        l_inverse = torch.where(going, distance, torch.inf).rsqrt()[:, None]  # 0 where it has stopped: changes nothing
        now.atom[:, t] = i
        direction = now.inverse[:, t, : t + 1]
        direction[:, :t] = (w @ inverse).squeeze(1) * -l_inverse
        direction[:, t:] = l_inverse
        gain = now.left.gather(1, i[:, None]) * l_inverse
        now.value[:, : t + 1].addcmul_(gain, direction)
        if t + 1 < k:
            chosen = now.atom[:, : t + 1]
            like = F.embedding_bag(chosen, gram, per_sample_weights=direction, mode="sum")
            now.left.addcmul_(like, gain, value=-1).scatter_(1, chosen, 0.0)
            if by_error:
                now.new.addcmul_(like, like, value=-1)
            now.error.sub_(gain.squeeze(1).square())
            going = going & (now.error > now.allowed)
    _retire(now, going, done)
    return done


def _largest(score: Tensor) -> tuple[Tensor, Tensor]:
    """The largest |score| of each row and where it is, both ``(C,)``.

    Of equal scores the one at the lowest place. On a CPU a maximum takes ten times as long if its place is asked for
    too: that is found in one row of a table.
    """
    n = score.shape[1]
    if score.device.type != "cpu" or n % _WIDTH:
        largest, place = score.abs().max(dim=1)
        return largest, place
    table = score.view(-1, n // _WIDTH, _WIDTH)
    row = torch.maximum(table.amax(dim=2), -table.amin(dim=2)).max(dim=1).indices
    largest, column = table[torch.arange(len(table)), row].abs().max(dim=1)
    return largest, row * _WIDTH + column


def _retire(now: _Pursuit, going: Tensor, done: SparseCodes) -> _Pursuit:
    """Writes what is known of all into ``done`` and goes on with those ``going``."""
    done.atom[now.row] = now.atom
    done.value[now.row] = now.value
    return _Pursuit(*(field[going] for field in now))
