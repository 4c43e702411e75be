"""Thresholds that code a sample alone as sparsely as training codes a whole batch."""

import torch
from torch import Tensor, nn

_RATE = 0.01
"""How much of its size a threshold loses after a batch of which nothing exceeds it."""
_LARGEST_EXCESS = 10
"""Of how many exceed it over how many should."""
_AIMS = (0.5, 2.0)


class Threshold(nn.Module):
    """t, of all units ``()`` or of each ``(N,)``, that a given share of what training sees exceeds.

    It starts from the smallest activation that the first batch kept and follows the batches (Robbins and Monro, 1951):
    t *= 1 + 0.01 (share that exceeds t / (aim * share that should) - 1). The mean of the smallest kept is too high
    where few are: tails are convex. ``aim`` is 1 until validations say that other samples exceed t more or less often.
    """

    value: Tensor
    aim: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(shape))
        self.register_buffer("aim", torch.tensor(1.0))

    def passes(self, pre: Tensor) -> Tensor:
        """Where ``pre (B, N)`` is positive and not below t."""
        return (pre >= self.value) & (pre > 0)

    def follow_(self, excess: Tensor, smallest: Tensor) -> None:
        """After a batch: ``excess`` is the share that passes over the share that should; ``smallest`` of what training
        kept, infinite if it kept nothing.
        """
        factor = 1 + _RATE * (excess / self.aim - 1).clamp_max(_LARGEST_EXCESS)
        unknown = (self.value == 0) & smallest.isfinite()
        self.value.copy_(torch.where(unknown, smallest, self.value * factor))

    def calibrate_(self, excess: float) -> None:
        """Other samples pass ``excess`` times as often as they should."""
        self.aim.copy_((self.aim / excess).clamp(*_AIMS))
