"""MNIST, bundled with the package: no download."""

from torch import Tensor
from torchvision import datasets

from sparse_ae.data.embedded import unpack_mnist
from sparse_ae.data.module import ImageDataModule


class MNIST(ImageDataModule):
    """Handwritten digits, 28 x 28: 60,000 to train and validate, 10,000 to test (LeCun, Cortes, Burges).

    >>> data = MNIST()
    >>> data.prepare_data()
    >>> data.split("train").x.shape, data.train_dataloader().batch_size
    (torch.Size([55000, 784]), 128)
    """

    input_shape = (1, 28, 28)
    train_file_size = 60_000

    _is_prepared = False

    def prepare_data(self) -> None:
        """Unpack the files if they are missing or damaged."""
        if not self._is_prepared:  # called before training, testing and every analysis
            unpack_mnist(self.root / "MNIST" / "raw")
            self._is_prepared = True

    def read(self, *, train: bool) -> tuple[Tensor, Tensor]:
        """Read the training or the test file: images uint8 ``(n, 28, 28)``, labels int64 ``(n,)``."""
        dataset = datasets.MNIST(self.root, train=train)
        return dataset.data, dataset.targets
