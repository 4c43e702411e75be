"""Batches of rows in the order of an epoch, wherever the rows are stored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from sparse_ae.data.order import EpochSampler
from sparse_ae.functional import stream_seed

R = TypeVar("R")
ToFloat = Callable[[Tensor], Tensor]
"""Maps stored rows ``(B, D)`` to floats."""


class Batch(NamedTuple):
    """Data of one step."""

    x: Tensor
    """Input of the encoder, float ``(B, D)``."""
    target: Tensor
    """Target of the reconstruction, float ``(B, D)``: ``x`` itself unless that was corrupted."""

    def to(self, device: torch.device | str) -> "Batch":
        """Return this batch on ``device``; Lightning calls this. A target that is ``x`` moves once and stays ``x``."""
        x = self.x.to(device, non_blocking=self.x.is_pinned())
        target = x if self.target is self.x else self.target.to(device, non_blocking=self.target.is_pinned())
        return Batch(x, target)


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


class Loader(ABC, Generic[R]):
    """Batches of ``rows (n, D)`` in the order of ``sampler``; a subclass says how those of its storage are read.

    - ``to_float``: from stored rows to floats, batch by batch.
    - ``shift``: augmentation of training images.
    - ``pin``: True to copy batches into pinned memory, from which CUDA fetches them while it computes.

    Lightning finds ``sampler`` and sets its epoch.
    """

    batch_sampler = None  # Lightning asks every loader with a sampler for it

    def __init__(
        self,
        rows: R,
        sampler: EpochSampler,
        batch_size: int,
        to_float: ToFloat = to_unit_interval,
        *,
        shift: Shift | None = None,
        pin: bool = False,
    ) -> None:
        self.rows = rows
        self.sampler = sampler
        self.batch_size = batch_size
        self.to_float = to_float
        self.shift = shift
        self.pin = pin

    @abstractmethod
    def chunks(self) -> Generator[Tensor, None, None]:
        """Yield the rows of each batch of the epoch as stored, in its order; all but the last hold ``batch_size``."""

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        seed, epoch = self.sampler.seed, self.sampler.epoch
        # Counted from the end, batches of a resumed epoch have the numbers of the whole epoch.
        first = len(self) - -(-(len(self.sampler) - self.sampler.seen) // self.batch_size)
        with closing(self.chunks()) as chunks:
            for number, rows in enumerate(chunks, first):
                x = self.to_float(rows)
                if self.shift is not None:
                    x = self.shift(x, seed, epoch, number)
                if self.pin:
                    x = x.pin_memory()
                yield Batch(x, x)


class ResidentLoader(Loader[Tensor]):
    """Batches of ``rows (n, D)``, on their device, in the order of ``sampler``.

    Rows in host memory give batches in host memory, which Lightning moves.

    >>> loader = ResidentLoader(torch.eye(3), EpochSampler(3, seed=0, shuffle=False), batch_size=2)
    >>> [batch.x.shape for batch in loader]
    [torch.Size([2, 3]), torch.Size([1, 3])]
    """

    def chunks(self) -> Generator[Tensor, None, None]:
        """Yield the rows of each batch by indexing."""
        indices = self.sampler.indices().to(self.rows.device)
        for start in range(0, len(indices), self.batch_size):
            yield torch.index_select(self.rows, 0, indices[start : start + self.batch_size])
