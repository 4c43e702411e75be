"""Loader of transformed samples: any torchvision v2 transform, in worker processes, for augmentation and denoising."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sparse_ae.data.loader import Batch, to_unit_interval
from sparse_ae.data.order import EpochSampler
from sparse_ae.functional import stream_seed

Transform = Callable[[Tensor], Tensor]


class TransformedImages(Dataset[Batch]):
    """Float images ``(C, H, W)`` in [0, 1], transformed, then flattened.

    The key of an item is (epoch, index). Its randomness is a function of (seed, epoch, index), so that samples do not
    depend on the number of workers or on a resume.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        shape: tuple[int, ...],
        transforms: list[Transform],
        *,
        transform_target: bool,
        seed: int,
    ) -> None:
        self.images = images
        self.labels = labels
        self.shape = shape
        self.transforms = transforms
        self.transform_target = transform_target
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        clean = to_unit_interval(self.images[index])
        x = self._transform(clean, epoch, index) if self.transforms else clean
        return Batch(x, x if self.transform_target else clean, self.labels[index])

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
    dataset: TransformedImages, sampler: EpochSampler, batch_size: int, num_workers: int
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
