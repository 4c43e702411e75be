"""Squared error of reconstructions with units left out, in closed form where the decoder is affine.

Shapes: B samples, D values, N units, K numbers of units; ``z (B, N)``, ``x (B, D)``, ``atoms (N, D)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.analysis.statistics import sample_errors, stratified

_DECODINGS = 800_000
"""Default bound of decodings: enough for all of MNIST's test images with 80 codes each."""
_GREEDY_CODES, _GREEDY_SAMPLES, _GREEDY_GROWTH = 32_000, 1000, 2
"""Limits of the greedy search: codes != 0, samples, and the factor by which a block multiplies the units chosen."""


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
    quadratic: Tensor
    """Quadratic terms ``(N, N)``."""

    @property
    def importance(self) -> Tensor:
        """E(all but i) - E(all), ``(N,)``."""
        return 2 * self.linear - 2 * self.quadratic.sum(dim=1) + self.quadratic.diag()

    def kept(self, order: Tensor, numbers: Sequence[int]) -> Tensor:
        """E of the first m units of ``order (N,)``, for each m in ``numbers``: ``(K,)``."""
        ordered = self.quadratic[order][:, order]
        added = 2 * ordered.tril(-1).sum(dim=1) + ordered.diag() - 2 * self.linear[order]
        return torch.cat([self.empty[None], self.empty + added.cumsum(dim=0)])[list(numbers)]

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
    def importance(self) -> Tensor:
        """E(all but i) - E(all), ``(N,)``; only samples that use unit i are decoded again."""
        z, x = self.subject.z[self.samples], self.subject.x[self.samples]
        errors = sample_errors(self.subject.x_hat[self.samples], x)
        increase = torch.zeros(z.shape[1], dtype=torch.float64)
        for unit in (z != 0).any(dim=0).nonzero()[:, 0].tolist():
            users = z[:, unit] != 0
            without = z[users]
            without[:, unit] = 0
            increase[unit] = (sample_errors(self.subject.decode(without), x[users]) - errors[users]).sum()
        return increase / x.numel()

    def kept(self, order: Tensor, numbers: Sequence[int]) -> Tensor:
        """E of the first m units of ``order (N,)``, for each m in ``numbers``: ``(K,)``."""
        z, x = self.subject.z[self.samples], self.subject.x[self.samples]
        place = order.argsort()
        errors = [sample_errors(self.subject.decode(z * (place < m)), x).sum() for m in numbers]
        return torch.stack(errors) / x.numel()

    def greedy_order(self, growth: int = _GREEDY_GROWTH) -> Tensor:
        """Forward selection in blocks, ``(N,)``: trying each unit beside each choice would take N^2 / 2 decodings.

        Beside the units S chosen so far each other one is decoded, decode(z_S + z_i) - decode(z_S). Units are then
        chosen as if these differences added up, until there are ``growth`` times as many: 1, 2, 4, 8 ... Exact for the
        first unit, for affine decoders, and with a growth of 1, which measures again for every unit. The search runs
        on at most 1,000 samples with about 32,000 codes != 0; unused units follow in order of importance.
        """
        codes_per_sample = max(float((self.subject.z != 0).sum() / len(self.subject.z)), 1.0)
        most = max(min(_GREEDY_SAMPLES, int(_GREEDY_CODES / codes_per_sample)), 1)
        samples = self.samples[stratified(self.subject.strata[self.samples], most)]
        chosen = torch.zeros(self.subject.z.shape[1], dtype=torch.bool)
        order: list[int] = []
        by_importance = self.importance.argsort(descending=True, stable=True)
        while not chosen.all():
            rest = by_importance[~chosen[by_importance]]  # the first of equals is taken
            linear, quadratic = (part[rest] for part in self._additions(samples, chosen))
            block = max((growth - 1) * len(order), 1)
            best = rest[forward_selection(linear, quadratic[:, rest], min(block, len(rest)))]
            chosen[best] = True
            order += best.tolist()
        return torch.tensor(order)

    def _additions(self, samples: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over ``samples`` of <x - x_hat, v_i> ``(N,)`` and <v_i, v_j> ``(N, N)``.

        x_hat is decoded from the units ``chosen (N,)``; v_i is the contribution of another unit i to it.
        """
        linear, quadratic = torch.zeros(len(chosen)), torch.zeros(len(chosen), len(chosen))
        for x, z in zip(self.subject.x[samples], self.subject.z[samples], strict=True):
            added = ((z != 0) & ~chosen).nonzero()[:, 0]
            codes = (z * chosen).repeat(1 + len(added), 1)
            codes[torch.arange(1, len(codes)), added] = z[added]
            decoded = self.subject.decode(codes)
            x_hat, v = decoded[0], decoded[1:] - decoded[0]
            linear[added] += v @ (x - x_hat)
            quadratic[added[:, None], added] += v @ v.T
        return linear.double(), quadratic.double()


def forward_selection(linear: Tensor, quadratic: Tensor, most: int) -> Tensor:
    """Greedy minimiser of -2 sum_{i in S} linear_i + sum_{i,j in S} quadratic_ij: the units in order, ``(most,)``.

    ``linear (N,)`` and ``quadratic (N, N)``; each unit leaves the lowest value beside those before it.
    """
    order, change = [], quadratic.diag() - 2 * linear
    for _ in range(most):
        best = int(change.argmin())
        order.append(best)
        change = change + 2 * quadratic[best]
        change[best] = torch.inf
    return torch.tensor(order)


@lru_cache(maxsize=1)  # shared by importance and truncation
def ablate(subject: Subject, decodings: int = _DECODINGS) -> AffineAblation | DecodedAblation:
    """Closed form over all samples if the decoder is affine, else by decoding.

    Decoding takes one call per code != 0; the number of samples is reduced to stay within ``decodings``.
    """
    decoder = affine_decoder(subject)
    if decoder is None:
        codes_per_sample = max(float((subject.z != 0).sum() / len(subject.z)), 1.0)
        return DecodedAblation(stratified(subject.strata, max(int(decodings / codes_per_sample), 1)), subject)
    atoms, bias = (part.double() for part in decoder)
    z, target, size = subject.z.double(), subject.x.double() - bias, subject.x.numel()
    return AffineAblation(
        samples=torch.arange(len(z)),
        empty=target.square().sum() / size,
        linear=(z.T @ target * atoms).sum(dim=1) / size,
        quadratic=(z.T @ z) * (atoms @ atoms.T) / size,
    )


def affine_decoder(subject: Subject) -> tuple[Tensor, Tensor] | None:
    """Atoms ``(N, D)`` and bias ``(D,)`` with decode(z) = z @ atoms + bias; None if the decoder is not affine.

    Tested on random codes as large as the largest of the sample.
    """
    n = subject.z.shape[1]
    scale = float(subject.z.abs().max()) or 1.0
    bias = subject.decode(torch.zeros(1, n))[0]
    atoms = (subject.decode(scale * torch.eye(n)) - bias) / scale
    probe = scale * torch.randn(100, n, generator=torch.Generator().manual_seed(0))
    decoded = subject.decode(probe)
    off = (probe @ atoms + bias - decoded).abs().max()
    return (atoms, bias) if off <= 1e-4 * decoded.abs().max() else None
