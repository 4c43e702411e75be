"""Loader of data that fit in memory: one tensor, batches by indexing, no workers, no per-sample Python."""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from sparse_ae.data.loader import Chunk, Loader, Shift, to_unit_interval
from sparse_ae.data.order import EpochSampler


class ResidentLoader(Loader):
    """Batches of ``rows (n, D)`` and ``labels (n,)``, on their device, in the order of ``sampler``.

    Rows in host memory give batches in host memory, which Lightning moves.

    >>> rows, labels = torch.eye(3), torch.arange(3)
    >>> loader = ResidentLoader(rows, labels, EpochSampler(3, seed=0, shuffle=False), batch_size=2)
    >>> [batch.label.tolist() for batch in loader]
    [[0, 1], [2]]
    """

    def __init__(
        self,
        rows: Tensor,
        labels: Tensor | None,
        sampler: EpochSampler,
        batch_size: int,
        to_float: Callable[[Tensor], Tensor] = to_unit_interval,
        *,
        shift: Shift | None = None,
        pin: bool = False,
    ) -> None:
        super().__init__(labels, sampler, batch_size, to_float, shift, pin)
        self.rows = rows

    def chunks(self) -> Generator[Chunk, None, None]:
        """Yield the rows of each batch by indexing."""
        indices = self.sampler.indices().to(self.rows.device)
        for start in range(0, len(indices), self.batch_size):
            position = indices[start : start + self.batch_size]
            yield Chunk(torch.index_select(self.rows, 0, position), position)
