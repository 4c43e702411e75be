"""Loader of data that fit in memory: one tensor, batches by indexing, no workers, no per-sample Python."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from sparse_ae.functional import epoch_order, stream_seed


class Batch(NamedTuple):
    """Data of one step."""

    x: Tensor
    """Input of the encoder, float ``(B, D)``."""
    target: Tensor
    """Target of the reconstruction, float ``(B, D)``: ``x`` itself unless that was corrupted."""
    label: Tensor
    """Classes, int64 ``(B,)``, not used in training."""


def to_unit_interval(images: Tensor) -> Tensor:
    """Convert uint8 in [0, 255] to float32 in [0, 1], as torchvision's ``ToTensor``; floats pass unchanged.

    >>> to_unit_interval(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return images if images.is_floating_point() else images.float().div_(255)


class Shift(NamedTuple):
    """Augmentation that rolls half of the batches, targets included, by up to ``pixels`` vertically and horizontally.

    A function of (seed, epoch, batch) alone.

    >>> Shift(pixels=1, epochs=None, shape=(1, 1, 3))(torch.tensor([[1.0, 2.0, 3.0]]), seed=0, epoch=0, batch=5)
    tensor([[2., 3., 1.]])
    """

    pixels: int
    """Largest shift in pixels; 0 for none."""
    epochs: int | None
    """Number of first epochs with shifts; None for all epochs."""
    shape: tuple[int, ...]
    """Channels, height, width."""

    def __call__(self, x: Tensor, seed: int, epoch: int, batch: int) -> Tensor:
        """Return ``x (B, D)``, rolled or not."""
        if self.pixels == 0 or (self.epochs is not None and epoch >= self.epochs):
            return x
        generator = torch.Generator().manual_seed(stream_seed(seed, epoch, batch))
        moved, down, right = torch.rand(3, generator=generator).tolist()
        if moved < 0.5:
            return x
        by = [int((2 * self.pixels + 1) * share) - self.pixels for share in (down, right)]
        return x.reshape(-1, *self.shape).roll(by, dims=(-2, -1)).flatten(1)


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


class ResidentLoader:
    """Batches of ``images (n, D)`` and ``labels (n,)``, on their device, in the order of ``sampler``.

    uint8 images are converted to floats batch by batch. Lightning finds ``sampler`` and sets its epoch.

    >>> images, labels = torch.eye(3), torch.arange(3)
    >>> loader = ResidentLoader(images, labels, EpochSampler(3, seed=0, shuffle=False), batch_size=2)
    >>> [batch.label.tolist() for batch in loader]
    [[0, 1], [2]]
    """

    def __init__(
        self, images: Tensor, labels: Tensor, sampler: EpochSampler, batch_size: int, shift: Shift | None = None
    ) -> None:
        self.shift = shift
        self.images = images
        self.labels = labels
        self.sampler = sampler
        self.batch_sampler = None  # Lightning asks every loader with a sampler for it
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        sampler = self.sampler
        indices = sampler.indices().to(self.images.device)
        last = len(self)  # counted from the end, batches of a resumed epoch have the numbers of the whole epoch
        for place, chunk in enumerate(chunks := indices.split(self.batch_size)):
            x = to_unit_interval(torch.index_select(self.images, 0, chunk))
            if self.shift is not None:
                x = self.shift(x, sampler.seed, sampler.epoch, last - len(chunks) + place)
            yield Batch(x, x, torch.index_select(self.labels, 0, chunk))
