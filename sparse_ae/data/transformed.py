"""Loader of transformed samples: any torchvision v2 transform, in worker processes, for augmentation and denoising."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sparse_ae.data.loader import Batch, ToFloat
from sparse_ae.data.order import EpochSampler
from sparse_ae.data.rows import Rows
from sparse_ae.functional import stream_seed

Transform = Callable[[Tensor], Tensor]


class TransformedRows(Dataset[Batch]):
    """Images ``(C, H, W)`` as floats, transformed, then flattened.

    The key of an item is (epoch, index). Its randomness is a function of (seed, epoch, index), so that samples do not
    depend on the number of workers or on a resume. Lightning moves batches to the training device.
    """

    def __init__(
        self,
        rows: Rows,
        to_float: ToFloat,
        shape: tuple[int, ...],
        transforms: Sequence[Transform],
        *,
        transform_target: bool,
        seed: int,
    ) -> None:
        self.rows = rows
        self.to_float = to_float
        self.shape = shape
        self.transforms = transforms
        self.transform_target = transform_target
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        clean = self.to_float(self.rows.read(index, index + 1))[0]
        x = self._transform(clean, epoch, index)
        return Batch(x, x if self.transform_target else clean)

    def _transform(self, clean: Tensor, epoch: int, index: int) -> Tensor:
        x = clean.view(self.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.seed, epoch, index))
            for transform in self.transforms:
                x = transform(x)
        return x.reshape(-1)


class EpochKeys(Sampler[tuple[int, int]]):
    """Indices of an ``EpochSampler``, each with its epoch."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.sampler.epoch, index) for index in self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


def transformed_loader(
    dataset: TransformedRows, sampler: EpochSampler, batch_size: int, num_workers: int
) -> DataLoader[Batch]:
    """Return a DataLoader over ``dataset`` in the order of ``sampler``."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochKeys(sampler),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # for the seeds of workers, instead of the global generator of training
    )
