"""Order of the samples in an epoch: a pure function of (seed, epoch)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler


def stream_seed(*key: int) -> int:
    """Mix non-negative integers, such as (seed, epoch) or (seed, epoch, index), into one 64-bit seed.

    >>> stream_seed(0, 1) != stream_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def epoch_order(n_samples: int, seed: int, epoch: int) -> Tensor:
    """Permutation of ``range(n_samples)``, int64 ``(n_samples,)`` on the CPU, determined by (seed, epoch).

    >>> epoch_order(5, seed=0, epoch=1).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, epoch))
    return torch.randperm(n_samples, generator=generator)


class EpochSampler(Sampler[int]):
    """Share of one rank in the samples of each epoch.

    Shuffled, for training: every rank gets the same number of samples, hence of steps. Up to ``world_size - 1`` samples
    are left out, different ones each epoch. In order, for evaluation: shares may differ by one sample, and together the
    ranks see each sample exactly once.

    ``resume_at=(epoch, n)`` skips the first n samples of that one epoch, which a resumed run has seen. The length stays
    that of a whole epoch.

    >>> list(EpochSampler(5, seed=0, shuffle=False, rank=1, world_size=2))
    [1, 3]
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
    ) -> None:
        self.n_samples = n_samples
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch, _ = self.resume_at = resume_at

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Return this rank's samples in the order of the epoch, int64 ``(len(self),)``, fewer in a resumed epoch."""
        if not self.shuffle:
            return torch.arange(self.n_samples)[self.rank :: self.world_size]
        order = epoch_order(self.n_samples, self.seed, self.epoch)
        epoch, seen = self.resume_at
        return order[self.rank :: self.world_size][: len(self)][seen if epoch == self.epoch else 0 :]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        if self.shuffle:
            return self.n_samples // self.world_size
        return len(range(self.rank, self.n_samples, self.world_size))
