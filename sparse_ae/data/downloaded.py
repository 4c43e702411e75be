"""Datasets in MNIST's format that torchvision downloads."""

from typing import ClassVar

from torch import Tensor
from torchvision import datasets

from sparse_ae.data.module import ImageDataModule


class Downloaded(ImageDataModule):
    """28 x 28 images in MNIST's format, kept in ``root/<dataset>/raw``."""

    input_shape = (1, 28, 28)
    train_file_size = 60_000
    dataset: ClassVar[type[datasets.MNIST]]
    """Dataset class of torchvision."""

    def prepare_data(self) -> None:
        """Download missing files. Raises ``OSError``, naming the files and their folder, if that fails."""
        try:
            self.dataset(self.root, download=True)
        except (OSError, RuntimeError) as error:
            files = ", ".join(name for name, _ in self.dataset.resources)
            folder = self.root / self.dataset.__name__ / "raw"
            raise OSError(
                f"data={self.dataset.__name__}: cannot be downloaded ({str(error).splitlines()[0]}); "
                f"put {files} into {folder}"
            ) from error

    def read(self, *, train: bool) -> tuple[Tensor, Tensor]:
        """Read the training or the test file: images uint8 ``(n, 28, 28)``, labels int64 ``(n,)``."""
        dataset = self.dataset(self.root, train=train)
        return dataset.data, dataset.targets
