"""The order in which an epoch visits the samples: a pure function of (seed, epoch)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler


def stream_seed(*key: int) -> int:
    """One well-mixed 64-bit seed from several non-negative integers: (seed, epoch), (seed, epoch, index) ..."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def epoch_order(n_samples: int, seed: int, epoch: int) -> Tensor:
    """A permutation of ``range(n_samples)``, int64 ``(n_samples,)`` on the CPU, the same for the same (seed, epoch)."""
    generator = torch.Generator().manual_seed(stream_seed(seed, epoch))
    return torch.randperm(n_samples, generator=generator)


class EpochSampler(Sampler[int]):
    """One rank's share of each epoch's samples.

    Shuffled, for training: every rank gets the same number, so that all take as many steps; the up to
    ``world_size - 1`` samples left over are other ones each epoch. In order, for evaluation: the shares may differ by
    one sample, so that the ranks together see each sample exactly once.

    ``resume_at=(epoch, n)`` leaves out the first n samples of that one epoch, which a run that is resumed in its middle
    has seen. The length stays that of a whole epoch.
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
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """This rank's samples in this epoch's order, int64 ``(len(self),)``, fewer in the epoch resumed."""
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
