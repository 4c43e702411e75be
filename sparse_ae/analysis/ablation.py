"""Squared error of reconstructions with units left out, in closed form where the decoder is affine.

Shapes: B samples, D values, N units, K numbers of units; ``z (B, N)``, ``x (B, D)``, ``atoms (N, D)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import sample_errors, stratified
from sparse_ae.functional import block_rows

_PAIRS = 2**24
"""Largest number of pairs of units that are active together, over all samples: terms of a square."""
_DECODINGS, _DECODED_CODES = 800_000, 2**32
"""Default bounds of decodings, and of the codes in them, 0 or not: enough for all of MNIST's test images with 80 codes
each.
"""
_GREEDY_CODES, _GREEDY_DECODED_CODES, _GREEDY_SAMPLES, _GREEDY_UNITS = 32_000, 2**28, 1000, 4096
"""Limits of a greedy search by decoding: codes != 0, codes decoded for them, 0 or not, samples, units."""
_GREEDY_GROWTH = 2
"""Factor by which a block of such a search multiplies the units chosen."""
_DECODED_AT_ONCE = 1000
"""Largest number of codes decoded at a time."""


@dataclass(frozen=True, eq=False)
class AffineAblation:
    """MSE of a decoder x_hat = z @ atoms + bias with only the units S kept:

        E(S) = empty - 2 sum_{i in S} linear_i + sum_{i,j in S} quadratic_ij

    where empty = |x - bias|^2, linear_i = z_i <x - bias, atom_i>, quadratic_ij = z_i z_j <atom_i, atom_j>, each a mean
    over samples and values. Float64, because differences between sums of large terms are wanted.
    """

    samples: Tensor
    """Indices of the samples."""
    empty: Tensor
    """Error with no unit kept, a scalar."""
    linear: Tensor
    """Linear terms ``(N,)``."""
    quadratic: sparse.csr_array
    """Quadratic terms ``(N, N)``, of units that are active together."""

    @cached_property
    def importance(self) -> Tensor:
        """E(all but i) - E(all), ``(N,)``."""
        total, own = self.quadratic.sum(axis=1), self.quadratic.diagonal()
        return 2 * self.linear + torch.from_numpy(own - 2 * total)

    def kept(self, order: Tensor, numbers: Sequence[int]) -> Tensor:
        """E of the first m units of ``order (N,)``, for each m in ``numbers``: ``(K,)``."""
        place, pairs = order.argsort().numpy(), self.quadratic.tocoo()
        later = np.maximum(place[pairs.row], place[pairs.col])
        added = np.bincount(later, pairs.data, minlength=len(place)) - 2 * self.linear[order].numpy()
        return torch.cat([self.empty[None], self.empty + torch.from_numpy(added).cumsum(dim=0)])[list(numbers)]

    def greedy_order(self) -> Tensor:
        """Forward selection, ``(N,)``: each unit leaves the lowest E beside those chosen before it."""
        return forward_selection(self.linear, self.quadratic, len(self.linear))


@dataclass(frozen=True, eq=False)
class DecodedAblation:
    """MSE of any decoder with units left out, by decoding."""

    samples: Tensor
    """Indices of the samples."""
    subject: Subject

    @cached_property
    def codes(self) -> Codes:
        """Codes of the samples."""
        return self.subject.codes.take(self.samples)

    @cached_property
    def importance(self) -> Tensor:
        """E(all but i) - E(all), ``(N,)``; only samples that use unit i are decoded again."""
        x, x_hat = self.subject.x[self.samples], self.subject.x_hat[self.samples]
        errors, units = sample_errors(x_hat, x), self.codes.shape[1]
        increase = torch.zeros(units, dtype=torch.float64)
        for rows, z in self.codes.row_blocks():
            for sample, unit in (used.unbind(dim=1) for used in z.nonzero().split(block_rows(units, _DECODED_AT_ONCE))):
                without = z[sample].scatter_(1, unit[:, None], 0)
                left = sample_errors(self.subject.decode(without), x[rows][sample])
                increase.index_add_(0, unit, left - errors[rows][sample])
        return increase / x.numel()

    def kept(self, order: Tensor, numbers: Sequence[int]) -> Tensor:
        """E of the first m units of ``order (N,)``, for each m in ``numbers``: ``(K,)``."""
        x, place = self.subject.x[self.samples], order.argsort()
        errors = torch.zeros(len(numbers), dtype=torch.float64)
        for rows, z in self.codes.row_blocks():
            decoded = (self.subject.decode(z * (place < m)) for m in numbers)
            errors += torch.stack([sample_errors(x_hat, x[rows]).sum() for x_hat in decoded])
        return errors / x.numel()

    def greedy_order(self, growth: int = _GREEDY_GROWTH) -> Tensor:
        """Forward selection in blocks, ``(N,)``: trying each unit beside each choice would take N^2 / 2 decodings.

        Beside the units S chosen so far each other one is decoded, decode(z_S + z_i) - decode(z_S). Units are then
        chosen as if these differences added up, until there are ``growth`` times as many: 1, 2, 4, 8 ... Exact for the
        first unit, for linear decoders, and with a growth of 1, which measures again for every unit. The search runs
        on at most 1,000 samples with about 32,000 codes != 0, and fewer of very wide codes. It ends after 4,096 units;
        those left follow in order of importance, and so do unused units.
        """
        units = self.codes.shape[1]
        most = int(min(_GREEDY_CODES, _GREEDY_DECODED_CODES // units) / _per_sample(self.subject.codes))
        samples = stratified(self.subject.strata[self.samples], max(min(_GREEDY_SAMPLES, most), 1))
        x, codes = self.subject.x[self.samples[samples]], self.codes.take(samples)
        chosen = torch.zeros(units, dtype=torch.bool)
        order: list[int] = []
        by_importance = self.importance.argsort(descending=True, stable=True)
        while not chosen.all():
            rest = by_importance[~chosen[by_importance]]  # the first of equals is taken
            if len(order) >= _GREEDY_UNITS:
                return torch.tensor(order + rest.tolist())
            rest = rest[:_GREEDY_UNITS]
            block = max((growth - 1) * len(order), 1)
            best = rest[forward_selection(*self._additions(x, codes, chosen, rest), min(block, len(rest)))]
            chosen[best] = True
            order += best.tolist()
        return torch.tensor(order)

    def _additions(self, x: Tensor, codes: Codes, chosen: Tensor, rest: Tensor) -> tuple[Tensor, sparse.csr_array]:
        """Sums over samples of <x - x_hat, v_i> ``(n,)`` and <v_i, v_j> ``(n, n)``, for the units ``rest (n,)``.

        x_hat is decoded from the units ``chosen (N,)``; v_i is the contribution of another unit i to it.
        """
        linear, quadratic = torch.zeros(len(rest)), torch.zeros(len(rest), len(rest))
        for rows, block in codes.row_blocks():
            for target, z in zip(x[rows], block, strict=True):
                added = z[rest].nonzero()[:, 0]
                x_hat, v = self._contributions(z, chosen, rest[added])
                linear[added] += v @ (target - x_hat)
                quadratic[added[:, None], added] += v @ v.T
        return linear.double(), sparse.csr_array(quadratic.double().numpy())

    def _contributions(self, z: Tensor, chosen: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """decode(z_S) ``(D,)`` of the ``chosen`` units S, and decode(z_S + z_i) - decode(z_S) of each ``unit (n,)``."""
        parts, first = [], torch.tensor([-1])  # no unit beside those chosen
        for part in torch.cat([first, unit]).split(block_rows(len(z), _DECODED_AT_ONCE)):
            codes = (z * chosen).repeat(len(part), 1)
            codes[torch.arange(len(part)), part] += torch.where(part < 0, 0, z[part])
            parts.append(self.subject.decode(codes))
        decoded = torch.cat(parts)
        return decoded[0], decoded[1:] - decoded[0]


def forward_selection(linear: Tensor, quadratic: sparse.csr_array, most: int) -> Tensor:
    """Greedy minimiser of -2 sum_{i in S} linear_i + sum_{i,j in S} quadratic_ij: the units in order, ``(most,)``.

    ``linear (N,)`` and ``quadratic (N, N)``; each unit leaves the lowest value beside those before it.
    """
    order, change = [], quadratic.diagonal() - 2 * linear.numpy()
    for _ in range(most):
        best = int(change.argmin())
        order.append(best)
        own = slice(*quadratic.indptr[best : best + 2])
        change[quadratic.indices[own]] += 2 * quadratic.data[own]
        change[best] = np.inf
    return torch.tensor(order)


@lru_cache(maxsize=1)  # shared by importance and truncation
def ablate(subject: Subject, decodings: int = _DECODINGS) -> AffineAblation | DecodedAblation:
    """Closed form if the decoder is linear, else by decoding.

    The number of samples is reduced to stay within ``decodings``, of which there is one per code != 0; in closed form
    only for more than 4,096 units, to stay within 2^24 pairs of codes != 0 of the same sample. If those of a single
    sample are more, decoding it is.
    """
    codes, strata = subject.codes, subject.strata
    units, pairs = codes.shape[1], float(codes.counts.double().square().mean())
    if subject.is_linear and units**2 <= _PAIRS:
        return _in_closed_form(subject, torch.arange(len(codes)))
    if subject.is_linear and pairs <= _PAIRS:
        return _in_closed_form(subject, stratified(strata, int(_PAIRS / max(pairs, 1))))
    most = int(min(decodings, _DECODED_CODES // units) / _per_sample(codes))
    return DecodedAblation(stratified(strata, max(most, 1)), subject)


def _per_sample(codes: Codes) -> float:
    """Mean number of codes != 0 of a sample, at least 1."""
    return max(len(codes.values) / len(codes), 1.0)


def _in_closed_form(subject: Subject, samples: Tensor) -> AffineAblation:
    codes, atoms = subject.codes.take(samples), subject.atoms.double()
    target = subject.x[samples].double() - subject.empty.double()
    size, units = target.numel(), len(atoms)
    pairs = _all_pairs(codes, atoms) if units**2 <= _PAIRS else _active_pairs(codes, atoms)
    return AffineAblation(
        samples=samples,
        empty=target.square().sum() / size,
        linear=((codes.T @ target) * atoms).sum(dim=1) / size,
        quadratic=pairs / size,
    )


def _all_pairs(codes: Codes, atoms: Tensor) -> sparse.csr_array:
    """sum_b z_bi z_bj <atom_i, atom_j>, of all units beside each other, ``(N, N)``."""
    together = sum(z.double().T @ z.double() for _, z in codes.row_blocks())
    return sparse.csr_array((together * (atoms @ atoms.T)).numpy())


def _active_pairs(codes: Codes, atoms: Tensor) -> sparse.csr_array:
    """``_all_pairs``, of the units of each sample beside each other: few, if codes are sparse."""
    row, column, product = [], [], []
    for value, unit in zip(*(part.split(codes.counts.tolist()) for part in (codes.values, codes.unit)), strict=True):
        added = value[:, None] * atoms[unit]
        row.append(unit.repeat_interleave(len(unit)))
        column.append(unit.repeat(len(unit)))
        product.append((added @ added.T).flatten())
    entries = torch.cat(product).numpy(), (torch.cat(row).numpy(), torch.cat(column).numpy())
    return sparse.coo_array(entries, shape=(len(atoms), len(atoms))).tocsr()
