"""Numerics of analyses: samples and errors, means of defined values, sparseness, changes of codes, class statistics."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.analysis.codes import Codes
from sparse_ae.functional import always_on_units, blocks, blockwise, hoyer, inactive_units, treves_rolls, vinje_gallant

Array = npt.NDArray[np.floating]

_PERMUTATIONS_AT_ONCE = 20


def stratified(label: Tensor, n: int) -> Tensor:
    """Indices of ``n`` samples, each class with its share of the labels ``(B,)``; all samples where n >= B.

    With a single label they are evenly spread.
    """
    n = min(n, len(label))
    middles = (2 * torch.arange(n) + 1) * len(label) // (2 * n)
    return label.argsort(stable=True)[middles]


def evenly_spread(n: int, most: int) -> Tensor:
    """Indices of at most ``most`` of n things, from the first to the last: all of them where there are no more."""
    return torch.linspace(0, n - 1, min(most, n), dtype=torch.float64).long()


def sample_errors(x_hat: Tensor, x: Tensor) -> Tensor:
    """|x_hat_b - x_b|^2 of each sample, ``(B,)`` in float64; ``x_hat`` may be one prediction ``(D,)`` for all."""
    errors: Tensor = (x_hat - x).norm(dim=1).double().square()
    return errors


def variances(subject: Subject, index: Tensor) -> Tensor:
    """|x_b - mean training sample|^2 of the samples ``index``, in float64. FVU is mean error over the mean of these."""
    return sample_errors(subject.sample.train_rows().float().mean(dim=0), subject.x[index])


def ratio(part: Tensor | float, whole: Tensor | float) -> float | None:
    """part / whole; None where the whole is 0."""
    return float(part) / float(whole) if whole else None


def difference(first: float | None, second: float | None) -> float | None:
    """first - second; None where either is None."""
    return None if first is None or second is None else first - second


def mean_defined(values: Sequence[float | None] | Array | Tensor) -> float | None:
    """Mean of the values that are neither NaN nor None, in float64; None if there are none."""
    defined = np.asarray(values, dtype=float)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if defined.size else None


def log_spaced(most: int, steps: int) -> list[int]:
    """0, ``most``, and about ``steps`` whole numbers between them, evenly spaced on a logarithmic scale."""
    between = np.geomspace(1, most, steps).round().astype(int).tolist() if most else []
    return sorted({0, *between, most})


def units_needed(
    tried: Sequence[int],
    errors: Tensor,
    variance: Tensor | float,
    share: float,
    errors_with: Callable[[Sequence[int]], Tensor],
) -> int | None:
    """Least number of units from which on ``share`` of the variance that all units explain is explained.

    ``errors (K,)`` are left with each of the numbers ``tried``, in ascending order, the last of them all; ``variance``
    is the error of the mean sample. The goal is passed for the last time between two of the numbers tried, and found
    there by bisection with ``errors_with(numbers)``. None if even all units explain nothing.
    """
    explained = variance - errors
    goal = share * explained[-1]
    if explained[-1] <= 0:
        return None
    below: list[int] = (explained < goal).nonzero().flatten().tolist()
    if not below:
        return tried[0]
    short, enough = tried[below[-1]], tried[below[-1] + 1]
    while enough - short > 1:
        middle = (short + enough) // 2
        if variance - errors_with([middle])[0] < goal:
            short = middle
        else:
            enough = middle
    return enough


def sparseness(codes: Codes) -> dict[str, Array]:
    """Three measures of the sparseness of each sample of ``(B, N)``, ``(B,)`` each; NaN where they are 0/0."""
    a = codes.per_sample(treves_rolls)
    measures = {"hoyer": codes.per_sample(hoyer), "treves_rolls": a, "vinje_gallant": vinje_gallant(a, codes.shape[1])}
    return {name: values.numpy() for name, values in measures.items()}


def threshold_curves(codes: Codes, thresholds: Array) -> dict[str, Array]:
    """Mean population sparsity, inactive and always-on units, ``(T,)`` each, over ascending ``thresholds (T,)`` >= 0.

    One histogram of codes for each unit gives all of them: lifetime_ji = mean_b [|z_bi| > t_j].
    """
    (samples, units), bins = codes.shape, len(thresholds) + 1
    above = torch.from_numpy(thresholds).to(codes.values)
    index = torch.bucketize(codes.values.abs(), above, out_int32=True)  # t_(j-1) < |z| <= t_j; codes of 0 exceed none
    counts = torch.bincount(index + bins * codes.unit, minlength=bins * units).reshape(-1, bins)
    lifetime = counts.flip(1).cumsum(1).flip(1)[:, 1:].T / float(samples)
    return {
        "threshold": thresholds,
        "population_sparsity": lifetime.mean(dim=1).numpy(),
        "inactive_units": inactive_units(lifetime).numpy(),
        "always_on_units": always_on_units(lifetime).numpy(),
    }


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|b_i - a_i| of each row of two ``(B, D)``, ``(B,)`` in float64."""
    lengths: Tensor = (b - a).norm(dim=1).double()
    return lengths


def support_change(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """1 - |A and B| / |A or B| of the sets of units with |code| > threshold in each row, ``(B,)``.

    NaN where both sets are empty. Source: P. Jaccard, 1901.
    """
    in_a, in_b = a.abs() > threshold, b.abs() > threshold
    either = (in_a | in_b).sum(dim=1)
    return 1 - (in_a & in_b).sum(dim=1) / torch.where(either > 0, either, torch.nan)


def partners(n: int) -> Tensor:
    """Index of another sample for each of n, the next of a ring in random order: ``(n,)``."""
    ring = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return torch.empty_like(ring).scatter_(0, ring, ring.roll(1))


class Classes(NamedTuple):
    """Classes that occur in a sample, C of them."""

    values: list[int]
    """Labels of the classes, in ascending order."""
    member: Array
    """1 where the sample is of the class, ``(B, C)``."""

    @property
    def counts(self) -> Array:
        """Number of samples of each class, ``(C,)``."""
        counts: Array = self.member.sum(axis=0)
        return counts

    @property
    def contrasts(self) -> Array:
        """1 / (n_c (B - n_c)) for the members of class c, less its mean over samples, ``(B, C)``.

        AUROC = 1/2 + ranks @ contrasts, from wherever ranks are counted.
        """
        weights = self.member / np.maximum(self.counts * (len(self.member) - self.counts), 1)
        contrasts: Array = weights - weights.mean(axis=0)
        return contrasts


def classes_of(label: npt.NDArray[np.int64]) -> Classes:
    """Classes among the labels ``(B,)``."""
    values = np.unique(label)
    return Classes(values.tolist(), (label[:, None] == values).astype(float))


def ranks_above_zero(codes: Codes) -> sparse.csr_array:
    """Ranks of each unit's |codes|, ties at their mean rank, less the rank that codes of 0 share: ``(N, B)``."""
    sizes, count = codes.T.sizes, codes.T.counts.numpy()
    is_first = np.ones(len(sizes.data), dtype=bool)  # of equal sizes of a unit
    is_first[1:] = sizes.data[1:] != sizes.data[:-1]
    is_first[sizes.indptr[:-1][count > 0]] = True
    first = np.flatnonzero(is_first)
    ties = np.diff(np.append(first, len(is_first)))
    ranks = np.repeat(first + (ties - 1) / 2, ties)  # from 0, among the codes != 0 of all units
    ranks += np.repeat((len(codes) - count + 1) / 2 - sizes.indptr[:-1], count)
    return sparse.csr_array((ranks, sizes.indices, sizes.indptr), shape=sizes.shape)


def spread(ranks: sparse.csr_array) -> Array:
    """Standard deviation of each unit's ranks, ``(N,)`` from ``(N, B)``."""
    variance: Array = ranks.multiply(ranks).mean(axis=1) - ranks.mean(axis=1) ** 2
    return np.sqrt(variance)


def away_from_median(ranks: sparse.csr_array) -> npt.NDArray[np.intp]:
    """Number of samples on which a unit is not at its median, ``(N,)`` from ``(N, B)``."""
    samples = ranks.shape[1]
    away: npt.NDArray[np.intp] = np.diff(ranks.indptr).astype(np.intp)
    often = np.flatnonzero(2 * away >= samples)  # the median of the others is 0
    for part in blocks(len(often), samples):
        own = ranks[often[part]].toarray()
        away[often[part]] = (own != np.median(own, axis=1, keepdims=True)).sum(axis=1)
    return away


def label_information(active: sparse.csr_array, classes: Classes) -> Array:
    """I(active; label) in bits per unit, ``(N,)`` from ``(N, B)``: sum_ac p(a, c) log2(p(a, c) / (p(a) p(c)))."""
    on = active @ classes.member
    joint = np.stack([on, classes.counts - on]) / len(classes.member)
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=0, keepdims=True)
    quotient = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    bits: Array = (joint * np.log2(quotient)).sum(axis=(0, 2))
    return bits.clip(min=0)


def permutation_null(ranks: sparse.csr_array, classes: Classes, permutations: int) -> npt.NDArray[np.float32]:
    """Largest (AUROC - 1/2) / s of each unit over classes with the labels shuffled, s the spread of its ranks.

    ``(permutations, N)`` from ranks ``(N, B)``, in float32.
    """
    (units, samples), contrasts = ranks.shape, torch.from_numpy(classes.contrasts).float()

    def null(part: slice) -> Tensor:
        own = ranks[part].toarray()
        own -= own.mean(axis=1, keepdims=True)
        own /= np.maximum(own.std(axis=1, keepdims=True), 1e-12)
        return _largest_by_chance(torch.from_numpy(own).float(), contrasts, permutations)

    return blockwise(units, samples, null).T.numpy()


def _largest_by_chance(standard: Tensor, contrasts: Tensor, permutations: int) -> Tensor:
    """max_c standard @ shuffled contrasts, ``(n, permutations)``: one product for several permutations at a time."""
    generator, largest = torch.Generator().manual_seed(0), []
    for start in range(0, permutations, _PERMUTATIONS_AT_ONCE):
        count = min(_PERMUTATIONS_AT_ONCE, permutations - start)
        shuffled = [contrasts[torch.randperm(len(contrasts), generator=generator)] for _ in range(count)]
        products = standard @ torch.cat(shuffled, dim=1)
        largest.append(products.unflatten(1, (count, contrasts.shape[1])).amax(dim=2))
    return torch.cat(largest, dim=1)


def pooled_p_values(observed: Array, null: npt.NDArray[np.float32]) -> Array:
    """(1 + #{null >= observed}) / (1 + #null), ``(N,)`` from ``(N,)`` and a null of any shape.

    Values that differ by float32's rounding count as equal.
    """
    beyond = null.size - np.searchsorted(np.sort(null, axis=None), observed * (1 - 1e-5))
    return (1 + beyond) / (1 + null.size)
