"""A loader for data that fit in memory: one tensor, batches by indexing, no workers, no per-sample Python."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_ae.data.order import EpochSampler, stream_seed


class Batch(NamedTuple):
    """One step's data."""

    x: Tensor
    """What is encoded, float ``(B, D)``."""
    target: Tensor
    """What is to be reconstructed, float ``(B, D)``: ``x`` itself unless ``x`` was corrupted."""
    label: Tensor
    """Classes, int64 ``(B,)``; no training step reads them."""


def to_unit_interval(images: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [0, 1], as torchvision's ``ToTensor`` scales; floats pass unchanged."""
    return images if images.is_floating_point() else images.float().div_(255)


class Shift(NamedTuple):
    """Augmentation: half of the batches are rolled by up to so many pixels either way, their targets with them.

    A function of (seed, epoch, batch) alone.
    """

    pixels: int
    epochs: int | None
    """Only in so many first epochs; None: in all."""
    shape: tuple[int, ...]
    """Channels, height, width."""

    def __call__(self, x: Tensor, seed: int, epoch: int, batch: int) -> Tensor:
        """``x (B, D)``, rolled or not."""
        if self.pixels == 0 or (self.epochs is not None and epoch >= self.epochs):
            return x
        generator = torch.Generator().manual_seed(stream_seed(seed, epoch, batch))
        moved, down, right = torch.rand(3, generator=generator).tolist()
        if moved < 0.5:
            return x
        by = [int((2 * self.pixels + 1) * share) - self.pixels for share in (down, right)]
        return x.reshape(-1, *self.shape).roll(by, dims=(-2, -1)).flatten(1)


class ResidentLoader:
    """Batches of ``images (n, D)`` and ``labels (n,)``, on whatever device these are, in the sampler's order.

    Lightning finds ``sampler`` and sets its epoch. uint8 images are converted batch by batch, to the same floats.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, sampler: EpochSampler, batch_size: int, shift: Shift | None = None
    ) -> None:
        self.shift = shift
        self.images = images
        self.labels = labels
        self.sampler = sampler
        self.batch_sampler = None  # Lightning asks this of whatever has a sampler
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        sampler = self.sampler
        indices = sampler.indices().to(self.images.device)
        last = len(self)  # batches are counted from the end, where an epoch that is resumed in its middle agrees
        for place, chunk in enumerate(chunks := indices.split(self.batch_size)):
            x = to_unit_interval(torch.index_select(self.images, 0, chunk))
            if self.shift is not None:
                x = self.shift(x, sampler.seed, sampler.epoch, last - len(chunks) + place)
            yield Batch(x, x, torch.index_select(self.labels, 0, chunk))
