"""Base class of image datasets: splits, loaders, devices."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from platformdirs import user_cache_path
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from sparse_ae.config.checked import checked
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.device import usable_device
from sparse_ae.data.loader import Batch, Shift, to_unit_interval
from sparse_ae.data.order import EpochSampler
from sparse_ae.data.resident import ResidentLoader
from sparse_ae.data.transformed import TransformedImages, transformed_loader

Split = Literal["train", "val", "test"]


class Images(NamedTuple):
    """Rows of one split and their labels."""

    x: Tensor
    """Flat images ``(n, D)``, uint8, or float in [0, 1]."""
    label: Tensor
    """Classes, int64 ``(n,)``."""


class ImageDataModule(LightningDataModule, ABC):
    """Train, val and test split of one image dataset.

    ``val_size`` images of the training file, drawn by ``seed``, are the validation split. The test file is a split of
    its own, read only by ``split("test")``. By default the images are one tensor on the training device, and batches
    are made by indexing.

    - ``root``: folder of the files; by default ``$SPARSE_AE_DATA`` if set, else a per-user cache.
    - ``device``: device of the images, which stay bytes until a batch is made; ``auto`` is the trainer's.
    - ``resident``: False for a DataLoader on the CPU with ``num_workers`` workers, which ``transforms`` need.
    - ``transforms``: of training inputs. With ``transform_target`` the transformed image is reconstructed
      (augmentation), else the clean one (denoising).
    - ``shift``, ``shift_epochs``: augmentation of resident training data, see ``Shift``.

    Raises ``ConfigError`` for sizes that leave no training batch, and for options that exclude each other.
    """

    input_shape: ClassVar[tuple[int, ...]]
    """Channels, height, width."""
    train_file_size: ClassVar[int]
    """Number of images in the training file, from which train and val are drawn."""

    @checked
    def __init__(
        self,
        *,
        # Files and splits
        root: str | None = None,
        seed: NonNegativeInt = 42,
        val_size: NonNegativeInt = 5000,
        # Loading
        batch_size: PositiveInt = 128,
        eval_batch_size: PositiveInt = 1000,
        device: str = "auto",
        resident: bool = True,
        num_workers: NonNegativeInt = 0,
        # Augmentation and corruption of training images
        transforms: Sequence[Callable[..., Tensor]] = (),
        transform_target: bool = False,
        shift: NonNegativeInt = 0,
        shift_epochs: NonNegativeInt | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root or os.environ.get("SPARSE_AE_DATA") or user_cache_path("sparse_ae")).expanduser()
        self.seed = seed
        self.val_size = val_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.device = device if device == "auto" else str(usable_device(device))
        self.resident = resident
        self.num_workers = num_workers
        self.transforms = list(transforms)
        self.transform_target = transform_target
        self.shift = Shift(shift, shift_epochs, self.input_shape)
        self._check_sizes()
        self._check_augmentation()

    def _check_sizes(self) -> None:
        if self.train_size < 1:
            expected = f"0 to {self.train_file_size - 1}"
            raise ConfigError("val_size", self.val_size, "leaves no training images", expected)
        if self.batch_size > self.train_size:
            raise ConfigError("batch_size", self.batch_size, "larger than the data", f"1 to {self.train_size}")

    def _check_augmentation(self) -> None:
        pixels, side = self.shift.pixels, min(self.input_shape[-2:])
        if self.resident and self.transforms:
            raise ConfigError("resident", "true", "transforms need a DataLoader", "data.resident=false")
        if pixels and not self.resident:
            raise ConfigError("shift", pixels, "needs resident data", "0, or data.resident=true")
        if pixels >= side:
            raise ConfigError("shift", pixels, "as large as an image", f"0 to {side - 1}")

    @property
    def input_dim(self) -> int:
        """Number of values in one image, D."""
        return int(torch.Size(self.input_shape).numel())

    @property
    def train_size(self) -> int:
        """Number of training images, known before any is read."""
        return self.train_file_size - self.val_size

    @property
    def train_batches(self) -> int:
        """Number of batches in one training epoch of each rank."""
        world_size = self.trainer.world_size if self.trainer else 1
        return -(-(self.train_size // world_size) // self.batch_size)

    @abstractmethod
    def read(self, *, train: bool) -> tuple[Tensor, Tensor]:
        """Read the training or the test file: images uint8 ``(n, H, W)``, labels int64 ``(n,)``."""

    def split(self, name: Split) -> Images:
        """Return one split on the CPU, as stored. Call ``prepare_data`` before."""
        if name == "test":
            return self._test
        train, val = self._train_val
        return train if name == "train" else val

    @cached_property
    def train_mean(self) -> Tensor:
        """Mean training image, float32 ``(D,)``: the prediction whose FVU is 1."""
        x = self.split("train").x
        sums = torch.stack([to_unit_interval(chunk).sum(dim=0) for chunk in x.split(1000)])
        return (sums.sum(dim=0, dtype=torch.float64) / len(x)).float()

    def prepare_data(self) -> None:
        """Fetch the files, once per machine."""

    def setup(self, stage: str) -> None:
        """Read the files that ``stage`` needs: never the test file for ``fit`` or ``validate``."""
        self.split("test" if stage == "test" else "train")

    def train_dataloader(self) -> ResidentLoader | DataLoader[Batch]:
        """Return the training split in the order of (seed, epoch), augmented."""
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> ResidentLoader | DataLoader[Batch] | list[Batch]:
        """Return the validation split in stored order; no batches without one."""
        return self.eval_dataloader("val") if self.val_size else []

    def test_dataloader(self) -> ResidentLoader | DataLoader[Batch]:
        """Return the test split in stored order."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, name: Split) -> ResidentLoader | DataLoader[Batch]:
        """Return a split in stored order, each image once."""
        return self._loader(name, self.eval_batch_size, shuffle=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; skip Lightning's walk through it if it is on the device already."""
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
        if self.resident or not shuffle:  # only training images are transformed
            device = self._resident_device()
            shift = self.shift if shuffle else None
            return ResidentLoader(images.x.to(device), images.label.to(device), sampler, batch_size, shift=shift)
        dataset = TransformedImages(
            *images,
            self.input_shape,
            self.transforms,
            transform_target=self.transform_target,
            seed=self.seed,
        )
        return transformed_loader(dataset, sampler, batch_size, self.num_workers)

    def _resume_at(self) -> tuple[int, int]:
        """Return the epoch in which training resumes, and the number of this rank's samples it has seen."""
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
