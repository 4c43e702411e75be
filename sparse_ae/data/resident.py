"""A loader for data that fit in memory: one tensor, batches by indexing, no workers, no per-sample Python."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_ae.data.order import EpochSampler


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


class ResidentLoader:
    """Batches of ``images (n, D)`` and ``labels (n,)``, on whatever device these are, in the sampler's order.

    Lightning finds ``sampler`` and sets its epoch. uint8 images are converted batch by batch, to the same floats.
    """

    def __init__(self, images: Tensor, labels: Tensor, sampler: EpochSampler, batch_size: int) -> None:
        self.images = images
        self.labels = labels
        self.sampler = sampler
        self.batch_sampler = None  # Lightning asks this of whatever has a sampler
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.sampler.indices().to(self.images.device)
        for chunk in indices.split(self.batch_size):
            x = to_unit_interval(torch.index_select(self.images, 0, chunk))
            yield Batch(x, x, torch.index_select(self.labels, 0, chunk))
