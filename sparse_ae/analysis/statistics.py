"""Numerics of analyses: samples and errors, means of defined values, sparseness, changes of codes, class statistics."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.functional import always_on_units, hoyer, inactive_units, treves_rolls, vinje_gallant

Array = npt.NDArray[np.floating]

_PERMUTATIONS_AT_ONCE = 20


def stratified(label: Tensor, n: int) -> Tensor:
    """Indices of ``n`` samples, each class with its share of the labels ``(B,)``; all samples where n >= B.

    With a single label they are evenly spread.
    """
    n = min(n, len(label))
    middles = (2 * torch.arange(n) + 1) * len(label) // (2 * n)
    return label.argsort(stable=True)[middles]


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


def sparseness(z: Tensor) -> dict[str, Array]:
    """Three measures of the sparseness of each row of ``z (B, N)``, ``(B,)`` each; NaN where they are 0/0."""
    a = treves_rolls(z)
    measures = {"hoyer": hoyer(z), "treves_rolls": a, "vinje_gallant": vinje_gallant(a, z.shape[1])}
    return {name: values.numpy() for name, values in measures.items()}


def threshold_curves(z: Tensor, thresholds: Array) -> dict[str, Array]:
    """Mean population sparsity, inactive and always-on units, ``(T,)`` each, over ascending ``thresholds (T,)``.

    One histogram of codes for each unit gives all of them: lifetime_ji = mean_b [|z_bi| > t_j].
    """
    bins = len(thresholds) + 1
    index = torch.bucketize(z.abs(), torch.from_numpy(thresholds).to(z), out_int32=True)  # t_(j-1) < |z| <= t_j
    index += bins * torch.arange(z.shape[1], dtype=torch.int32)
    counts = torch.bincount(index.flatten(), minlength=bins * z.shape[1]).reshape(-1, bins)
    lifetime = counts.flip(1).cumsum(1).flip(1)[:, 1:].T / float(len(z))
    return {
        "threshold": thresholds,
        "population_sparsity": lifetime.mean(dim=1).numpy(),
        "inactive_units": inactive_units(lifetime).numpy(),
        "always_on_units": always_on_units(lifetime).numpy(),
    }


def relative_change(a: Tensor, b: Tensor, others: Tensor) -> float | None:
    """mean |b - a| / mean |others - a| over rows ``(B, D)``: 1 where b is as far from a as another sample is.

    Unlike |b - a| / |a|, it does not depend on where a coder has its zero. None where the samples do not differ.
    """
    return ratio((b - a).norm(dim=1).double().mean(), (others - a).norm(dim=1).double().mean())


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
        """1 / (n_c (B - n_c)) for the members of class c, ``(B, C)``: AUROC = 1/2 + centred ranks @ contrasts."""
        return self.member / np.maximum(self.counts * (len(self.member) - self.counts), 1)


def classes_of(label: npt.NDArray[np.int64]) -> Classes:
    """Classes among the labels ``(B,)``."""
    values = np.unique(label)
    return Classes(values.tolist(), (label[:, None] == values).astype(float))


def centred_ranks(activity: Array) -> Array:
    """Ranks of each unit's samples, ties at their mean rank, minus (B + 1) / 2: ``(N, B)`` from ``(B, N)``."""
    ranks: Array = rankdata(activity.T, axis=1)
    ranks -= (len(activity) + 1) / 2
    return ranks


def label_information(active: npt.NDArray[np.bool_], classes: Classes) -> Array:
    """I(active; label) in bits per unit, ``(N,)`` from ``(B, N)``: sum_ac p(a, c) log2(p(a, c) / (p(a) p(c)))."""
    on = active.T @ classes.member
    joint = np.stack([on, classes.counts - on]) / len(active)
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=0, keepdims=True)
    quotient = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    bits: Array = (joint * np.log2(quotient)).sum(axis=(0, 2))
    return bits.clip(min=0)


def permutation_null(ranks: Array, classes: Classes, permutations: int) -> npt.NDArray[np.float32]:
    """Largest (AUROC - 1/2) / s of each unit over classes with the labels shuffled, s the spread of its ranks.

    ``(permutations, N)`` from centred ranks ``(N, B)``. One product of the ranks with the contrasts of several
    permutations at a time, in float32.
    """
    generator = torch.Generator().manual_seed(0)
    standard = torch.from_numpy(ranks / np.maximum(ranks.std(axis=1, keepdims=True), 1e-12)).float()
    contrasts = torch.from_numpy(classes.contrasts).float()
    largest = []
    for start in range(0, permutations, _PERMUTATIONS_AT_ONCE):
        count = min(_PERMUTATIONS_AT_ONCE, permutations - start)
        shuffled = [contrasts[torch.randperm(len(contrasts), generator=generator)] for _ in range(count)]
        products = standard @ torch.cat(shuffled, dim=1)
        largest.append(products.reshape(len(ranks), count, -1).amax(dim=2).T)
    return torch.cat(largest).numpy()


def pooled_p_values(observed: Array, null: npt.NDArray[np.float32]) -> Array:
    """(1 + #{null >= observed}) / (1 + #null), ``(N,)`` from ``(N,)`` and a null of any shape.

    Values that differ by float32's rounding count as equal.
    """
    beyond = null.size - np.searchsorted(np.sort(null, axis=None), observed * (1 - 1e-5))
    return (1 + beyond) / (1 + null.size)
