"""Sparse model of data whose features are known: x = codes @ atoms + bias + noise."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from sparse_ae.functional import blocks

Frequencies = Literal["uniform", "power_law"]
"""Firing probabilities of the features: all alike, or in proportion to rank^-exponent."""
Magnitudes = Literal["constant", "exponential", "half_normal"]
"""Distribution of the codes that are not 0; the mean is 1."""

_BELOW = 0.995
"""Share of a coherence below which atoms do not push each other."""
_STEP, _STEPS = 0.5, 2000
"""Size and largest number of the steps in which atoms push each other apart."""


class Truth(NamedTuple):
    """Features that data were made from, M of them, and their codes of some rows."""

    atoms: Tensor
    """Atoms of norm 1, float32 ``(M, D)``, in the data's own unit."""
    bias: Tensor
    """Constant part of the data, float32 ``(D,)``."""
    probability: Tensor
    """Probability that each feature fires, float64 ``(M,)``."""
    parent: Tensor
    """Parent of each feature, which fires wherever it does, int64 ``(M,)``; -1 for none."""
    codes: sparse.csr_array
    """Codes of the rows, float32 ``(B, M)``; those not stored are 0."""


class Forest(NamedTuple):
    """Trees of M features, one after the other, each numbered level by level."""

    parent: Tensor
    """Parent of each feature, ``(M,)``; -1 for a root."""
    level: Tensor
    """Number of features above each feature, ``(M,)``; 0 for a root."""
    tree: Tensor
    """Number of the tree of each feature, ``(M,)``."""


def tree_size(depth: int, children: int) -> int:
    """Number of features of a tree of ``depth`` levels in which each feature above the last has ``children``.

    >>> tree_size(1, children=5), tree_size(3, children=2)
    (1, 7)
    """
    return sum(children**level for level in range(depth))


def forest(n: int, depth: int, children: int) -> Forest:
    """Trees of ``n`` features; the last may be cut off. With a depth of 1, each feature is a tree.

    >>> forest(4, depth=2, children=2)
    Forest(parent=tensor([-1,  0,  0, -1]), level=tensor([0, 1, 1, 0]), tree=tensor([0, 0, 0, 1]))
    """
    size = tree_size(depth, children)
    feature = torch.arange(n)
    tree, place = feature // size, feature % size
    parent = torch.where(place == 0, -1, tree * size + (place - 1).clamp_min(0) // children)
    starts = torch.tensor([tree_size(level, children) for level in range(1, depth)], dtype=torch.long)
    return Forest(parent, torch.searchsorted(starts, place, right=True), tree)


def probabilities(
    trees: Forest, l0: float, frequencies: Frequencies, exponent: float, child_probability: float
) -> Tensor:
    """Probability that each feature fires, float64 ``(M,)`` of sum ``l0``; above 1 where there is no such model.

    A child fires with ``child_probability`` where its parent does; ``frequencies`` are those of the roots.

    >>> probabilities(forest(2, 1, 1), 0.6, "power_law", exponent=1.0, child_probability=1.0)
    tensor([0.4000, 0.2000], dtype=torch.float64)
    """
    weight = child_probability ** trees.level.double()
    if frequencies == "power_law":
        weight = weight * (trees.tree + 1).double() ** -exponent
    return l0 * weight / weight.sum()


def welch_bound(n: int, dim: int) -> float:
    """Least possible coherence of ``n`` unit vectors of ``dim`` values: sqrt((n - D) / (D (n - 1))), or 0.

    Source: L. Welch, "Lower bounds on the maximum cross correlation of signals", IEEE Trans. Inf. Theory 1974.

    >>> welch_bound(3, dim=2), welch_bound(2, dim=3)
    (0.5, 0.0)
    """
    return math.sqrt((n - dim) / (dim * (n - 1))) if n > dim else 0.0


def draw_atoms(n: int, dim: int, coherence: float | None, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draw random unit vectors, float64 ``(n, dim)``, and return their coherence if one was asked for.

    For a given ``coherence``, atoms 2 i and 2 i + 1 are drawn at this cosine, and all with a larger |cosine| push each
    other apart. The coherence that is reached is larger than the one asked for if that cannot be found.
    """
    atoms = F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=1)
    if coherence is None:
        return atoms, 0.0
    second = atoms[1::2]
    first = atoms[::2][: len(second)]
    apart = F.normalize(second - torch.linalg.vecdot(first, second)[:, None] * first, dim=1)
    atoms[1::2] = coherence * first + math.sqrt(1 - coherence**2) * apart
    return _push_apart(atoms, coherence)


def _push_apart(atoms: Tensor, coherence: float) -> tuple[Tensor, float]:
    n, reached = len(atoms), math.inf
    free = _BELOW * coherence
    for _ in range(_STEPS):
        step, largest = torch.empty_like(atoms), 0.0
        for part in blocks(n, n):
            cosines = atoms[part] @ atoms.T
            cosines.diagonal(part.start).zero_()
            largest = max(largest, float(cosines.abs().max()))
            step[part] = (cosines - cosines.clamp(-free, free)) @ atoms
        reached = min(reached, largest)
        if largest <= coherence * (1 + 1e-9):
            break
        atoms = F.normalize(atoms - _STEP * step, dim=1)
    return atoms, reached


def draw_loadings(roots: Tensor, correlation: float, rank: int, generator: torch.Generator) -> Tensor:
    """Draw weights of ``rank`` common factors in what makes features fire, ``(M, rank)``.

    Those of features that are no ``roots (M,)`` are 0, of others they have the squared norm ``correlation``.
    """
    directions = F.normalize(torch.randn(len(roots), rank, generator=generator, dtype=torch.float64), dim=1)
    loadings: Tensor = math.sqrt(correlation) * directions * roots[:, None]
    return loadings


class SparseModel(NamedTuple):
    """x = codes @ atoms + bias + noise. Feature i of M fires where g_i < Phi^-1(q_i), and its parent fires.

    g_i = loading_i . h + sqrt(1 - |loading_i|^2) e_i, with h and e ~ N(0, I): the correlation of g_i and g_j is
    loading_i . loading_j. q_i is the probability of a root, and of a child where its parent fires.
    """

    atoms: Tensor
    """Atoms of norm 1, float32 ``(M, D)``."""
    bias: Tensor
    """Constant part of the data, float32 ``(D,)``."""
    probability: Tensor
    """Probability that each feature fires, float64 ``(M,)``."""
    trees: Forest
    """Parents, whose children fire only with them."""
    loading: Tensor
    """Weights of the common factors, float64 ``(M, rank)``."""
    magnitudes: Magnitudes
    """Distribution of codes that are not 0."""
    noise: float
    """Standard deviation of the noise of each value."""

    def fires(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw the features that fire, boolean ``(rows, M)``."""
        parent, level, _ = self.trees
        given = torch.where(parent < 0, 1.0, self.probability[parent.clamp_min(0)])
        bound = torch.special.ndtri(self.probability / given).float()
        own = (1 - self.loading.square().sum(dim=1)).sqrt().float()
        common = torch.randn(rows, self.loading.shape[1], generator=generator) @ self.loading.float().T
        fires: Tensor = common.addcmul(torch.randn(rows, len(own), generator=generator), own) < bound
        for below in range(1, int(level.max()) + 1):
            child = (level == below).nonzero()[:, 0]
            fires[:, child] &= fires[:, parent[child]]
        return fires

    def codes(self, rows: int, generator: torch.Generator) -> sparse.csr_array:
        """Draw codes, of which those that are not 0 are stored, float32 ``(rows, M)``."""
        fires = self.fires(rows, generator)
        row, feature = fires.nonzero(as_tuple=True)
        value = torch.ones(len(row))
        if self.magnitudes == "exponential":
            value.exponential_(generator=generator)
        elif self.magnitudes == "half_normal":
            value.normal_(generator=generator).abs_().mul_(math.sqrt(math.pi / 2))
        starts = np.append(0, fires.sum(dim=1).cumsum(dim=0).numpy())
        return sparse.csr_array((value.numpy(), feature.numpy(), starts), shape=tuple(fires.shape))

    def data(self, codes: sparse.csr_array, generator: torch.Generator) -> Tensor:
        """Data ``(rows, D)`` of these codes; the noise is drawn."""
        x = torch.from_numpy(codes @ self.atoms.numpy()).add_(self.bias)
        return x.add_(torch.randn(x.shape, generator=generator), alpha=self.noise) if self.noise else x
