"""Order of an epoch: windows of rows that fit in memory, each permuted."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from sparse_ae.functional import epoch_order


class Window(NamedTuple):
    """Rows that are in memory together, and the order in which they are visited."""

    blocks: list[tuple[int, int]]
    """Ranges of positions (start, stop), ascending, which together are the rows of the window."""
    order: Tensor
    """Rows to visit, counted from the first row of the window, int64."""

    @property
    def positions(self) -> Tensor:
        """Positions of all rows of the window, ascending, int64.

        >>> Window([(0, 2), (6, 8)], torch.tensor([3, 0])).positions
        tensor([0, 1, 6, 7])
        """
        return torch.cat([torch.arange(start, stop) for start, stop in self.blocks])


class EpochSampler(Sampler[int]):
    """Share of one rank in the rows of each epoch, a function of (seed, epoch, n_samples, window, block).

    Shuffled, for training: every rank gets the same number of rows, hence of steps. Up to ``world_size - 1`` rows are
    left out, different ones each epoch. In order, for evaluation: shares may differ by one row, and together the ranks
    see each row exactly once.

    ``window`` is the largest number of rows that are in memory together; None for all. Up to that number, the order of
    an epoch is ``epoch_order``. More rows are cut into contiguous blocks of ``block`` rows (None: of a window). Blocks
    are permuted and dealt to windows of about equal size, in which rows are permuted.

    ``resume_at=(epoch, n)`` skips the first n rows of that one epoch, which a resumed run has seen. The length stays
    that of a whole epoch.

    >>> list(EpochSampler(5, seed=0, shuffle=False, rank=1, world_size=2))
    [1, 3]
    >>> [window.blocks for window in EpochSampler(8, seed=0, shuffle=True, window=4, block=2).windows()]
    [[(0, 2), (6, 8)], [(2, 4), (4, 6)]]
    """

    def __init__(
        self,
        n_samples: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        resume_at: tuple[int, int] = (0, 0),
        window: int | None = None,
        block: int | None = None,
    ) -> None:
        self.n_samples = n_samples
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch, _ = self.resume_at = resume_at
        self.window = n_samples if window is None else window
        self.block = self.window if block is None else min(block, self.window)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each."""
        self.epoch = epoch

    @property
    def seen(self) -> int:
        """Number of this rank's rows of the current epoch that a resumed run has seen."""
        epoch, seen = self.resume_at
        return seen if self.shuffle and epoch == self.epoch else 0

    @property
    def n_windows(self) -> int:
        """Number of windows of an epoch."""
        return 1 if self.n_samples <= self.window else -(-self._n_blocks // (self.window // self.block))

    @property
    def largest_window(self) -> int:
        """Largest number of rows of a window."""
        return self.n_samples if self.n_windows == 1 else -(-self._n_blocks // self.n_windows) * self.block

    def windows(self) -> Iterator[Window]:
        """Yield the windows of the epoch in which this rank has rows to visit."""
        epoch, n_windows = self.epoch, self.n_windows
        place = self.rank + self.seen * self.world_size  # of this rank's next row in the order of the epoch
        end = len(self) * self.world_size if self.shuffle else self.n_samples
        starts = torch.arange(0, self.n_samples, max(self.block, 1))
        if self.shuffle and n_windows > 1:
            starts = starts[epoch_order(len(starts), self.seed, epoch)]
        begin = 0
        for number, part in enumerate(starts.tensor_split(n_windows), 1):
            blocks = [(start, min(start + self.block, self.n_samples)) for start in part.sort().values.tolist()]
            size = sum(stop - start for start, stop in blocks)
            stop = min(begin + size, end)
            if place < stop:
                order = self._order(size, epoch, number)[place - begin : stop - begin : self.world_size]
                yield Window(blocks, order)
                place += len(order) * self.world_size
            begin += size

    def indices(self) -> Tensor:
        """Return this rank's rows in the order of the epoch, int64 ``(len(self),)``, fewer in a resumed epoch."""
        none = torch.empty(0, dtype=torch.int64)
        return torch.cat([none, *(window.positions[window.order] for window in self.windows())])

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        if self.shuffle:
            return self.n_samples // self.world_size
        return len(range(self.rank, self.n_samples, self.world_size))

    @property
    def _n_blocks(self) -> int:
        return -(-self.n_samples // self.block)

    def _order(self, size: int, epoch: int, number: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(size)
        if self.n_windows == 1:
            return epoch_order(size, self.seed, epoch)
        return epoch_order(size, self.seed, epoch, number)  # from 1: (seed, epoch, 0) has the stream of (seed, epoch)
