"""Pure maths on tensors: reconstruction errors, penalties, sparseness measures.

Shapes: ``x, x_hat (B, D)``, codes ``z (B, N)``, atoms ``(N, D)``. Nothing here holds state. Terms of a loss also take
a stack of R models, ``(R, B, N)``, to ``(R,)``. They are free of data-dependent branches, so that they run under
``torch.func.vmap`` too.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["mean", "sum"]
"""Reduction of a loss. ``mean``: over all elements. ``sum``: per sample, then averaged over the batch, as in papers."""


def as_row(v: Tensor) -> Tensor:
    """``(..., N)`` to ``(..., 1, N)``: a vector of each model, for all of its samples ``(..., B, N)``."""
    return v.unsqueeze(-2)


def as_cell(s: Tensor) -> Tensor:
    """``(...)`` to ``(..., 1, 1)``: a number of each model, for all of its ``(..., B, N)``."""
    return s[..., None, None]


def reconstruction_error(x_hat: Tensor, x: Tensor, reduction: Reduction = "mean") -> Tensor:
    """``mean``: sum_bd (x_hat - x)^2 / (B D); ``sum``: sum_bd (x_hat - x)^2 / B. Scalar from two ``(B, D)``.

    >>> x, x_hat = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[1.0, 1.0], [2.0, 5.0]])
    >>> reconstruction_error(x_hat, x), reconstruction_error(x_hat, x, "sum")
    (tensor(1.2500), tensor(2.5000))
    """
    if x_hat.dim() == 2:
        mean = F.mse_loss(x_hat, x)  # one fused kernel, whose mean is over exactly the two dims named below
    else:
        mean = F.mse_loss(x_hat, x.expand_as(x_hat), reduction="none").mean(dim=(-2, -1))
    return mean if reduction == "mean" else mean * x.shape[-1]


def l1_penalty(z: Tensor, reduction: Reduction = "mean", atom_norms: Tensor | None = None) -> Tensor:
    """``mean``: sum_bi |z_bi| w_i / (B N); ``sum``: sum_bi |z_bi| w_i / B. Scalar from codes ``(B, N)``.

    ``atom_norms (N,)`` gives w_i = |atom_i|_2, so that the penalty cannot be escaped by shrinking codes and growing
    atoms; without it w_i = 1. Source: Conerly et al., "Update on how we train SAEs", Anthropic, April 2024.

    >>> z = torch.tensor([[1.0, -2.0], [0.0, 4.0]])
    >>> l1_penalty(z), l1_penalty(z, "sum"), l1_penalty(z, "sum", atom_norms=torch.tensor([1.0, 10.0]))
    (tensor(1.7500), tensor(3.5000), tensor(30.5000))
    """
    magnitude = z.abs() if atom_norms is None else z.abs() * as_row(atom_norms)
    mean = magnitude.mean(dim=(-2, -1), dtype=_accumulator(z))
    return mean if reduction == "mean" else mean * z.shape[-1]


def bernoulli_kl(rho: Tensor, rho_hat: Tensor) -> Tensor:
    """KL(rho || rho_hat) = rho log(rho/rho_hat) + (1-rho) log((1-rho)/(1-rho_hat)), elementwise, in nats, >= 0.

    ``rho_hat`` is clamped to [eps, 1-eps] with the dtype's own eps (float32 cannot hold 1 - 1e-8), which keeps value
    and gradient finite at 0 and 1. Source: A. Ng, "Sparse autoencoder", CS294A lecture notes, 2011.

    >>> bernoulli_kl(torch.tensor(0.05), torch.tensor([0.05, 0.5, 0.0]))
    tensor([0.0000, 0.4946, 0.5986])
    """
    eps = torch.finfo(rho_hat.dtype).eps
    rho_hat = rho_hat.clamp(eps, 1 - eps)
    kl = _mean_log_likelihood(rho, rho) - _mean_log_likelihood(rho_hat, rho)
    return kl.clamp_min(0)  # rounding can make it negative where rho_hat == rho


def _mean_log_likelihood(q: Tensor, rho: Tensor) -> Tensor:
    """rho log(q) + (1 - rho) log(1 - q): mean log-likelihood of Bernoulli(q) under Bernoulli(rho), in one lerp."""
    return torch.lerp(torch.log1p(-q), torch.log(q), rho)


def kl_penalty(z: Tensor, rho: Tensor) -> Tensor:
    """sum_i KL(rho || mean_b z_bi), the divergence summed over units; codes ``(B, N)`` in [0, 1] to a scalar.

    >>> kl_penalty(torch.tensor([[0.2, 0.9], [0.4, 0.7]]), rho=torch.tensor(0.1))
    tensor(1.2620)
    """
    rho_hat = z.mean(dim=-2, dtype=_accumulator(z))
    return bernoulli_kl(rho.unsqueeze(-1).to(rho_hat.dtype), rho_hat).sum(dim=-1)


def hoyer_penalty(z: Tensor, largest_size: Tensor | None = None) -> Tensor:
    """mean_b (1 - Hoyer sparseness of z_b) = mean_b (|z_b|_1/|z_b|_2 - 1) / (sqrt(N) - 1), a scalar from ``(B, N)``.

    0 for a single non-zero, 1 for equal codes, and 0 without a gradient for an all-zero code. N > 1. ``largest_size
    (B,)`` takes the place of |z_b|_2 where it is smaller, down to |z_b|_2 / sqrt(N); the term is at most sqrt(N) + 1
    then.

    >>> z = torch.tensor([[3.0, 0.0], [2.0, 2.0]])
    >>> hoyer_penalty(z), hoyer_penalty(z, largest_size=torch.tensor([9.0, 2.0]))
    (tensor(0.5000), tensor(1.2071))
    """
    z = z.to(_accumulator(z))
    size = torch.linalg.vector_norm(z, dim=-1)
    if largest_size is not None:
        size = torch.minimum(size, torch.maximum(largest_size, size / z.shape[-1] ** 0.5))
    is_zero = size == 0
    ratio = z.abs().sum(dim=-1) / torch.where(is_zero, 1.0, size)
    return torch.where(is_zero, 0.0, (ratio - 1) / (z.shape[-1] ** 0.5 - 1)).mean(dim=-1)


def keep_largest(z: Tensor, k: int, by: Tensor | None = None, dim: int = -1) -> Tensor:
    """Keep the k largest of ``z`` along ``dim`` and set the others to 0; compare ``by``, of the same shape, if given.

    Exactly k are kept. Which of equal values those are is not defined, but the same every time on a CPU.

    >>> z = torch.tensor([[1.0, -5.0, 3.0]])
    >>> keep_largest(z, 1), keep_largest(z, 1, by=z.abs())
    (tensor([[0., 0., 3.]]), tensor([[ 0., -5.,  0.]]))
    """
    index = (z if by is None else by).topk(k, dim=dim, sorted=False).indices
    return torch.zeros_like(z).scatter(dim, index, z.gather(dim, index))


def select_rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows ``(..., m, D)`` of each model's ``table (..., N, D)`` at its own ``index (..., m)``.

    >>> select_rows(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([2, 0]))
    tensor([[3.],
            [1.]])
    """
    if index.dim() == 1:
        return table.index_select(0, index)
    first = torch.arange(len(index), device=index.device) * table.shape[-2]
    rows = table.flatten(0, 1).index_select(0, (index + first.unsqueeze(-1)).flatten())
    return rows.reshape(*index.shape, -1)


def update_mean_(mean: Tensor, value: Tensor, count: Tensor, forgets: float) -> None:
    """mean += max(1/(count + 1), forgets) (value - mean), count += 1, in place: a mean that becomes a moving mean.

    A ``value`` that is not finite is left out.

    >>> mean, count = torch.tensor(0.0), torch.tensor(0)
    >>> for value in (1.0, 3.0, float("nan"), 10.0):
    ...     update_mean_(mean, torch.tensor(value), count, forgets=0.5)
    >>> mean, count
    (tensor(6.), tensor(3))
    """
    finite = value.isfinite()
    rate = (1 / (count + 1)).clamp_min(forgets).to(mean.dtype)
    mean.add_(torch.where(finite, rate * (value.to(mean.dtype) - mean), 0.0))
    count.add_(finite)


def _accumulator(z: Tensor) -> torch.dtype:
    """Return the dtype to sum in, at least float32: the eps of bfloat16, 0.008, exceeds common targets rho."""
    return torch.promote_types(z.dtype, torch.float32)


def squared_error(x_hat: Tensor, x: Tensor, unit: Tensor | None = None) -> Tensor:
    """sum_bd (x_hat - x)^2 u_d^2 as a float64 scalar, from which MSE and FVU follow; u is ``unit``, or 1.

    ``x_hat`` may broadcast: ``(D,)`` predicts the same for every sample.

    >>> squared_error(torch.tensor([1.0, 1.0]), torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    tensor(6., dtype=torch.float64)
    """
    error = x_hat - x
    return (error if unit is None else error * unit).square().sum(dim=-1).sum(dim=-1, dtype=torch.float64)


def active(z: Tensor, threshold: float) -> Tensor:
    """|z| > threshold, boolean ``(B, N)``: True for active units.

    >>> active(torch.tensor([0.05, -0.5]), threshold=0.1)
    tensor([False,  True])
    """
    return z.abs() > threshold


def population_sparsity(z: Tensor, threshold: float = 0.1) -> Tensor:
    """Fraction of units active in each sample, ``(B,)``. Low means sparse.

    >>> population_sparsity(torch.tensor([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    return active(z, threshold).double().mean(dim=-1)


def lifetime_sparsity(z: Tensor, threshold: float = 0.1) -> Tensor:
    """Fraction of samples that activate each unit, ``(N,)``. Low means selective.

    >>> lifetime_sparsity(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    return active(z, threshold).double().mean(dim=-2)


INACTIVE_BELOW = 0.01
"""Share of the samples below which a unit is inactive."""


def inactive_units(lifetime: Tensor) -> Tensor:
    """Number of units active on less than 1 % of the samples, from the lifetime sparsity ``(N,)``.

    >>> inactive_units(torch.tensor([0.0, 0.005, 0.5]))
    tensor(2)
    """
    return (lifetime < INACTIVE_BELOW).sum(dim=-1)


ALWAYS_ON_ABOVE = 0.99
"""Share of the samples above which a unit is always on."""


def always_on_units(lifetime: Tensor) -> Tensor:
    """Number of units active on more than 99 % of the samples, from the lifetime sparsity ``(N,)``.

    >>> always_on_units(torch.tensor([0.5, 0.995, 1.0]))
    tensor(2)
    """
    return (lifetime > ALWAYS_ON_ABOVE).sum(dim=-1)


def dead_units(nonzero_samples: Tensor) -> Tensor:
    """Number of units whose code is never != 0, from each unit's number of samples with a code != 0, ``(N,)``.

    >>> dead_units(torch.tensor([0, 3, 0]))
    tensor(2)
    """
    return (nonzero_samples == 0).sum(dim=-1)


def hoyer(z: Tensor) -> Tensor:
    """(sqrt(N) - |z|_1/|z|_2) / (sqrt(N) - 1) per sample, ``(B,)``: 0 for equal codes, 1 for a single non-zero.

    NaN for an all-zero code and for N = 1, where it is 0/0. Source: P. Hoyer, "Non-negative matrix factorization with
    sparseness constraints", JMLR 2004.

    >>> hoyer(torch.tensor([[0.0, 3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
    tensor([1., 0.], dtype=torch.float64)
    """
    z = z.double()
    root_n = z.shape[-1] ** 0.5
    ratio = z.abs().sum(dim=-1) / torch.linalg.vector_norm(z, dim=-1)
    scale = torch.as_tensor(root_n - 1, dtype=z.dtype, device=z.device)  # 0 for N = 1, where Python would raise
    sparseness: Tensor = (root_n - ratio) / scale
    return sparseness


def treves_rolls(z: Tensor) -> Tensor:
    """a = (mean_i |z_i|)^2 / mean_i z_i^2 over the last dim, ``(B,)``: 1 for equal codes, 1/N for a single non-zero.

    NaN for an all-zero code. Source: A. Treves and E. T. Rolls, "What determines the capacity of autoassociative
    memories in the brain?", Network 1991, for firing rates, which are not negative.

    >>> treves_rolls(torch.tensor([[0.0, 3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
    tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    z = z.double()
    return z.abs().mean(dim=-1).square() / z.square().mean(dim=-1)


def vinje_gallant(a: Tensor, n: int) -> Tensor:
    """S = (1 - a) / (1 - 1/n) from Treves and Rolls' a of n codes: 0 for equal codes, 1 for a single non-zero.

    NaN where a is, and for n = 1. Source: W. E. Vinje and J. L. Gallant, "Sparse coding and decorrelation in primary
    visual cortex during natural vision", Science 2000.

    >>> vinje_gallant(torch.tensor([0.25, 1.0]), n=4)
    tensor([1., 0.])
    """
    return (1 - a) / (1 - 1 / n) if n > 1 else torch.full_like(a, torch.nan)


def geometric_median(x: Tensor, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """argmin_m sum_b |x_b - m|_2, ``(D,)`` from ``(B, D)``, by Weiszfeld's iteration from the mean.

    Stops when m moves by less than ``tolerance`` relative to its own norm.

    >>> geometric_median(torch.tensor([[0.0], [1.0], [100.0]])).round()
    tensor([1.])
    """
    median = x.mean(dim=0)
    for _ in range(iterations):
        weights = 1 / (x - median).square().sum(dim=1).sqrt().clamp_min(torch.finfo(x.dtype).eps)
        update = (weights @ x) / weights.sum()
        moved = (update - median).norm()
        median = update
        if moved <= tolerance * update.norm():
            break
    return median


def stream_seed(*key: int) -> int:
    """Mix non-negative integers, such as (seed, epoch) or (seed, epoch, index), into one 64-bit seed.

    >>> stream_seed(0, 1) != stream_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


BLOCK = 2**22
"""Largest number of values of an array with a row for each sample and a column for each unit: 16 MB of float32."""


def block_rows(units: int, most: int) -> int:
    """Number of rows with ``units`` values that a ``BLOCK`` holds: at least 1, and at most ``most``.

    >>> block_rows(128, most=1000), block_rows(65536, most=1000)
    (1000, 64)
    """
    return max(min(most, BLOCK // units), 1)


def blocks(samples: int, units: int) -> Iterator[slice]:
    """Slices of ``samples`` rows with ``units`` values, each no larger than a ``BLOCK``; an empty one of no rows.

    >>> list(blocks(100, 65536))
    [slice(0, 64, None), slice(64, 100, None)]
    """
    size = block_rows(max(units, 1), max(samples, 1))
    for start in range(0, max(samples, 1), size):
        yield slice(start, min(start + size, samples))


def blockwise(samples: int, units: int, function: Callable[[slice], Tensor]) -> Tensor:
    """``function`` of each of ``blocks(samples, units)``, ``(b, ...)``, as one tensor ``(samples, ...)``.

    That is there before the second block: small results kept between large blocks would leave holes in memory.

    >>> blockwise(100, 65536, lambda part: torch.full((part.stop - part.start,), part.start)).unique()
    tensor([ 0, 64])
    """
    first, *others = blocks(samples, units)
    result = function(first)
    if not others:
        return result
    whole = result.new_empty(samples, *result.shape[1:])
    whole[first] = result
    for part in others:
        whole[part] = function(part)
    return whole


def epoch_order(n_samples: int, *key: int) -> Tensor:
    """Permutation of ``range(n_samples)``, int64 ``(n_samples,)`` on the CPU, determined by ``key``.

    The key is (seed, epoch), or (seed, epoch, window) where an epoch has several windows.

    >>> epoch_order(5, 0, 1).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    generator = torch.Generator().manual_seed(stream_seed(*key))
    return torch.randperm(n_samples, generator=generator)
