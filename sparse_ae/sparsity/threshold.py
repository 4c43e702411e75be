"""Thresholds that code a sample alone as sparsely as training codes a whole batch."""

import torch
from torch import Tensor, nn

_RATE = 0.01
"""How much of its size a threshold loses after a batch of which nothing exceeds it."""
_LARGEST_EXCESS = 10
"""Of how many exceed it over how many should."""
_LOST = 0.01
"""So many times smaller than the smallest activation kept, a threshold starts anew: at 1 % a batch it would not get
there."""
_SMOOTHING = 0.05
"""Weight of the newest batch in the running mean of the excess."""
_AIMS = (0.5, 2.0)


class Threshold(nn.Module):
    """t, of all units ``()`` or of each ``(N,)``, that a given share of what training sees exceeds.

    It starts from the smallest activation that the first batch kept and follows the batches (Robbins and Monro, 1951):
    t *= 1 + 0.01 (share that exceeds t / (aim * share that should) - 1). The mean of the smallest kept is too high
    where few are: tails are convex. ``aim`` is 1 until a validation says that other samples exceed t more or less
    often than those of the batches do.
    """

    value: Tensor
    aim: Tensor
    excess: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(shape))
        self.register_buffer("aim", torch.tensor(1.0))
        self.register_buffer("excess", torch.tensor(1.0))

    def passes(self, pre: Tensor) -> Tensor:
        """Where ``pre (B, N)`` is positive and not below t."""
        return (pre >= self.value) & (pre > 0)

    def follow_(self, pre: Tensor, z: Tensor, share: float, dims: tuple[int, ...]) -> None:
        """After a batch whose ``pre (B, N)`` was coded as ``z``: ``share`` of it should pass, counted over ``dims``."""
        passing = self.passes(pre).to(self.value.dtype).mean(dim=dims)
        smallest = torch.where(z > 0, z, torch.inf).amin(dim=dims).to(self.value.dtype)
        unknown = (self.value < _LOST * smallest) & smallest.isfinite()
        excess = torch.where(unknown, 1.0, passing / share)
        factor = 1 + _RATE * (excess / self.aim - 1).clamp_max(_LARGEST_EXCESS)
        self.value.copy_(torch.where(unknown, smallest, self.value * factor))
        self.excess.add_(_SMOOTHING * (excess.mean() - self.excess))

    def calibrate_(self, excess: float) -> None:
        """Other samples pass ``excess`` times as often as they should: go halfway to the aim that makes that 1 if the
        ratio of theirs to the batches' stays as it is.
        """
        self.aim.copy_((self.aim + self.excess / excess).div(2).clamp(*_AIMS))
