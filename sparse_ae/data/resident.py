"""Loader of data that fit in memory: one tensor, batches by indexing, no workers, no per-sample Python."""

from collections.abc import Generator

import torch
from torch import Tensor

from sparse_ae.data.loader import Loader, Shift, ToFloat, to_unit_interval
from sparse_ae.data.order import EpochSampler


class ResidentLoader(Loader):
    """Batches of ``rows (n, D)``, on their device, in the order of ``sampler``.

    Rows in host memory give batches in host memory, which Lightning moves.

    >>> loader = ResidentLoader(torch.eye(3), EpochSampler(3, seed=0, shuffle=False), batch_size=2)
    >>> [batch.x.shape for batch in loader]
    [torch.Size([2, 3]), torch.Size([1, 3])]
    """

    def __init__(
        self,
        rows: Tensor,
        sampler: EpochSampler,
        batch_size: int,
        to_float: ToFloat = to_unit_interval,
        *,
        shift: Shift | None = None,
        pin: bool = False,
    ) -> None:
        super().__init__(sampler, batch_size, to_float, shift, pin)
        self.rows = rows

    def chunks(self) -> Generator[Tensor, None, None]:
        """Yield the rows of each batch by indexing."""
        indices = self.sampler.indices().to(self.rows.device)
        for start in range(0, len(indices), self.batch_size):
            yield torch.index_select(self.rows, 0, indices[start : start + self.batch_size])
