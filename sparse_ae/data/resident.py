"""Loader of data that fit in memory: one tensor, batches by indexing, no workers, no per-sample Python."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_ae.data.order import EpochSampler, stream_seed


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
