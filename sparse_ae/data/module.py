"""The data module every image dataset shares: splits, loaders, devices."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from platformdirs import user_cache_path
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from sparse_ae.data.order import EpochSampler
from sparse_ae.data.resident import Batch, ResidentLoader, Shift, to_unit_interval
from sparse_ae.data.transformed import Transform, TransformedImages, transformed_loader

Split = Literal["train", "val", "test"]


class Images(NamedTuple):
    """One split: flat images ``(n, D)``, uint8 or, of a user's own data, float in [0, 1], and classes ``(n,)``."""

    x: Tensor
    label: Tensor


class ImageDataModule(LightningDataModule, ABC):
    """Train, val and test of one image dataset.

    ``val_size`` images, drawn by ``seed``, are held out of the training file for validation; the test file is its own
    split and is read by nothing but ``split("test")``. By default the images live in one tensor on the training
    device and batches are made by indexing; with ``resident=False`` they stay on the CPU and training goes through a
    DataLoader with ``num_workers`` workers, which is what ``transforms`` (of training inputs only) need.

    - ``root``: folder of the files; ``None`` is a per-user cache.
    - ``device``: where the resident tensor lives, as bytes that each batch converts; ``auto`` is the trainer's device.
    - ``transform_target``: whether the transformed image is also what is to be reconstructed (augmentation) or the
      clean one (denoising).
    - ``shift``, ``shift_epochs``: augmentation of resident training data, see ``Shift``.
    """

    input_shape: ClassVar[tuple[int, ...]]
    """Channels, height, width."""
    train_file_size: ClassVar[int]
    """Images in the training file, from which train and val are drawn."""

    def __init__(
        self,
        *,
        root: str | None,
        seed: NonNegativeInt,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt,
        val_size: NonNegativeInt,
        device: str,
        resident: bool,
        num_workers: NonNegativeInt,
        transforms: list[Callable[..., Tensor]],
        transform_target: bool,
        shift: NonNegativeInt,
        shift_epochs: NonNegativeInt | None,
    ) -> None:
        super().__init__()
        train_size = self.train_file_size - val_size
        if train_size < 1:
            raise ValueError(
                f"val_size={val_size}: leaves no training images (allowed: 0 to {self.train_file_size - 1})"
            )
        if batch_size > train_size:
            raise ValueError(f"batch_size={batch_size}: larger than the data (allowed: 1 to {train_size})")
        if resident and transforms:
            raise ValueError("resident=true: transforms need the DataLoader path (allowed: data.resident=false)")
        if shift and not resident:
            raise ValueError(f"shift={shift}: is of resident data (allowed: 0, or data.resident=true)")
        if shift >= min(self.input_shape[-2:]):
            raise ValueError(f"shift={shift}: is as large as an image (allowed: 0 to {min(self.input_shape[-2:]) - 1})")
        self.shift = Shift(shift, shift_epochs, self.input_shape)
        self.root = user_cache_path("sparse_ae") if root is None else Path(root).expanduser()
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.device = device if device == "auto" else str(usable_device(device))
        self.resident = resident
        self.num_workers = num_workers
        self.transforms: list[Transform] = list(transforms)
        self.transform_target = transform_target

    @property
    def input_dim(self) -> int:
        """D, the number of values in one image."""
        return int(torch.Size(self.input_shape).numel())

    @property
    def train_batches(self) -> int:
        """Batches of one training epoch, of each rank."""
        world_size = self.trainer.world_size if self.trainer else 1
        return -(-((self.train_file_size - self.val_size) // world_size) // self.batch_size)

    @abstractmethod
    def read(self, *, train: bool) -> tuple[Tensor, Tensor]:
        """The training or the test file: images uint8 ``(n, H, W)``, labels int64 ``(n,)``."""

    def split(self, name: Split) -> Images:
        """One split on the CPU, as it is stored."""
        if name == "test":
            return self._test
        train, val = self._train_val
        return train if name == "train" else val

    @cached_property
    def train_mean(self) -> Tensor:
        """Mean training image, float32 ``(D,)``: the predictor whose FVU is 1."""
        x = self.split("train").x
        sums = torch.stack([to_unit_interval(chunk).sum(dim=0) for chunk in x.split(1000)])
        return (sums.sum(dim=0, dtype=torch.float64) / len(x)).float()

    def prepare_data(self) -> None:
        """Bring the files, once per machine."""

    def setup(self, stage: str) -> None:
        """Read what ``stage`` needs: never the test file for ``fit`` or ``validate``."""
        self.split("test" if stage == "test" else "train")

    def train_dataloader(self) -> ResidentLoader | DataLoader[Batch]:
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> ResidentLoader | DataLoader[Batch] | list[Batch]:
        return self.eval_dataloader("val") if self.val_size else []

    def test_dataloader(self) -> ResidentLoader | DataLoader[Batch]:
        return self.eval_dataloader("test")

    def eval_dataloader(self, name: Split) -> ResidentLoader | DataLoader[Batch]:
        """A split in its stored order, each image once."""
        return self._loader(name, self.eval_batch_size, shuffle=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Skip Lightning's walk through the batch when the resident tensors live on the device already."""
        if batch[0].device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _loader(self, name: Split, batch_size: int, *, shuffle: bool) -> ResidentLoader | DataLoader[Batch]:
        images = self.split(name)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(
            len(images.x),
            seed=self.seed,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
            resume_at=self._resume_at() if name == "train" else (0, 0),
        )
        if self.resident or not shuffle:  # evaluation transforms nothing
            device = self._resident_device()
            shift = self.shift if shuffle else None
            return ResidentLoader(images.x.to(device), images.label.to(device), sampler, batch_size, shift)
        dataset = TransformedImages(
            *images,
            self.input_shape,
            self.transforms,
            transform_target=self.transform_target,
            seed=self.seed,
        )
        return transformed_loader(dataset, sampler, batch_size, self.num_workers)

    def _resume_at(self) -> tuple[int, int]:
        """The epoch that training goes on in, and how many of this rank's samples it has seen."""
        if self.trainer is None:
            return 0, 0
        fit = self.trainer.fit_loop
        epoch, batch = fit.epoch_progress.state_dict()["current"], fit.epoch_loop.batch_progress.state_dict()["current"]
        in_the_middle = epoch["started"] > epoch["processed"]
        return epoch["processed"], batch["processed"] * self.batch_size if in_the_middle else 0

    def _resident_device(self) -> torch.device:
        if not self.resident:
            return torch.device("cpu")
        if self.device != "auto":
            return torch.device(self.device)
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @cached_property
    def _train_val(self) -> tuple[Images, Images]:
        images, labels = self.read(train=True)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        val, train = order[: self.val_size], order[self.val_size :]
        return self._stored(images[train], labels[train]), self._stored(images[val], labels[val])

    @cached_property
    def _test(self) -> Images:
        return self._stored(*self.read(train=False))

    def _stored(self, images: Tensor, labels: Tensor) -> Images:
        return Images(images.reshape(len(images), self.input_dim), labels)


def usable_device(name: str) -> torch.device:
    """``name`` as a device of this machine; ``auto`` is its accelerator, or the CPU.

    Raises ``ValueError`` for a name torch does not know or cannot use.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name}: not usable here ({reason}) (allowed: auto, cpu, cuda, cuda:0 ...)") from error
    return device
