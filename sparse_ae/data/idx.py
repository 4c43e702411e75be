"""Datasets of 28 x 28 images in MNIST's format, read with torchvision."""

from typing import ClassVar

from torch import Tensor
from torchvision import datasets

from sparse_ae.data.loader import to_unit_interval
from sparse_ae.data.module import DataModule, Samples
from sparse_ae.data.rows import MemoryRows
from sparse_ae.data.splits import Split


class IDX(DataModule):
    """60,000 grey images in [0, 1] to train and validate, 10,000 to test, with ten classes."""

    input_shape = (1, 28, 28)
    dataset: ClassVar[type[datasets.MNIST]]
    """Dataset class of torchvision, which reads ``root/<dataset>/raw``."""

    def count(self, name: Split) -> int | None:
        return {"train": 60_000, "val": None, "test": 10_000}[name]

    def source(self, name: Split) -> Samples:
        data = self.dataset(self.root, train=name == "train")
        return Samples(MemoryRows(data.data[:, None]), data.targets)

    def inspect(self) -> None:
        """Take the files as they are: they are known."""

    @property
    def fingerprint(self) -> str:
        """MD5 of the file of training images, which torchvision knows."""
        md5: str = self.dataset.resources[0][1]
        return md5

    def to_float(self, stored: Tensor) -> Tensor:
        """Bytes as floats in [0, 1]."""
        return to_unit_interval(stored)

    @property
    def in_unit_interval(self) -> bool:
        """True unless another scale is chosen."""
        return self.normalize in ("none", "unit_interval")
