"""Running thresholds that code a sample alone as sparsely as training codes a batch."""

import torch
from torch import Tensor, nn

from sparse_ae.functional import as_cell, as_row

_RATE = 0.01
"""Share of its size that a threshold loses after a batch of which nothing exceeds it."""
_LARGEST_EXCESS = 10
"""Upper bound of (share that exceeds the threshold / share that should) - 1 in one update."""
_LOST = 0.01
"""Ratio to the smallest kept activation below which a threshold is re-initialised: at 1 % a batch it would never catch
up."""
_SMOOTHING = 0.05
"""Weight of the newest batch in the running mean of the excess."""
_AIMS = (0.5, 2.0)
"""Bounds of ``aim``."""


class Threshold(nn.Module):
    """Threshold t, of all units ``()`` or of each ``(N,)``, that a given share of training activations exceeds.

    It starts from the smallest activation that the first batch kept and follows the batches (Robbins and Monro, 1951):
    t *= 1 + 0.01 (share that exceeds t / (aim * share that should) - 1). The mean of the smallest kept activations
    would be too high where few are kept, as tails are convex. ``aim`` is 1 until a validation measures that its samples
    exceed t more or less often than training batches do.

    Equal activations pass together or not at all. Where many are equal, the share is met on average over batches.

    >>> threshold = Threshold()
    >>> pre = torch.tensor([[3.0, 1.0], [2.0, 0.5]])
    >>> threshold.follow_(pre, pre * (pre >= 2), share=0.5, dims=(-2, -1))
    >>> threshold.value
    tensor(2.)
    """

    value: Tensor
    aim: Tensor
    excess: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("value", torch.zeros(shape))
        self.register_buffer("aim", torch.tensor(1.0))
        self.register_buffer("excess", torch.tensor(1.0))

    def passes(self, pre: Tensor) -> Tensor:
        """Boolean ``(B, N)``, True where ``pre (B, N)`` is positive and not below t."""
        value = as_row(self.value) if self.shape else as_cell(self.value)
        return (pre >= value) & (pre > 0)

    def follow_(self, pre: Tensor, z: Tensor, share: float, dims: tuple[int, ...]) -> None:
        """Update t after a batch ``pre (B, N)``, coded as ``z``, of which ``share`` should pass, over ``dims``."""
        passing = self.passes(pre).to(self.value.dtype).mean(dim=dims)
        smallest = torch.where(z > 0, z, torch.inf).amin(dim=dims).to(self.value.dtype)
        unknown = (self.value < _LOST * smallest) & smallest.isfinite()
        excess = torch.where(unknown, 1.0, passing / share)
        aim = self.aim.unsqueeze(-1) if self.shape else self.aim
        factor = 1 + _RATE * (excess / aim - 1).clamp_max(_LARGEST_EXCESS)
        self.value.copy_(torch.where(unknown, smallest, self.value * factor))
        mean = excess.mean(dim=-1) if self.shape else excess
        self.excess.add_(_SMOOTHING * (mean - self.excess))

    def calibrate_(self, excess: float) -> None:
        """Move ``aim`` halfway to where validation samples pass as often as they should.

        They pass ``excess`` times too often now; the ratio of that to the excess in training is taken to be constant.
        """
        self.aim.copy_((self.aim + self.excess / excess).div(2).clamp(*_AIMS))
