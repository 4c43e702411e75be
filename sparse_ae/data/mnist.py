"""MNIST, unpacked from the package: no download, no network."""

from torch import Tensor
from torchvision import datasets

from sparse_ae.data.embedded import unpack_mnist
from sparse_ae.data.module import ImageDataModule


class MNIST(ImageDataModule):
    """Handwritten digits, 28 x 28: 60,000 to train and validate, 10,000 to test (LeCun, Cortes, Burges)."""

    input_shape = (1, 28, 28)
    train_file_size = 60_000

    _is_prepared = False

    def prepare_data(self) -> None:
        if not self._is_prepared:  # training, testing and analysing each ask for it
            unpack_mnist(self.root / "MNIST" / "raw")
            self._is_prepared = True

    def read(self, *, train: bool) -> tuple[Tensor, Tensor]:
        dataset = datasets.MNIST(self.root, train=train)
        return dataset.data, dataset.targets
