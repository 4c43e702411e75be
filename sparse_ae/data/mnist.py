"""MNIST, bundled with the package: no download."""

from torchvision import datasets

from sparse_ae.data.embedded import unpack_mnist
from sparse_ae.data.idx import IDX


class MNIST(IDX):
    """Handwritten digits, 28 x 28: 60,000 to train and validate, 10,000 to test (LeCun, Cortes, Burges).

    >>> data = MNIST()
    >>> data.prepare_data()
    >>> len(data.split("train").rows), data.train_dataloader().batch_size
    (55000, 128)
    """

    dataset = datasets.MNIST

    _is_prepared = False

    def prepare_data(self) -> None:
        """Unpack the files if they are missing or damaged."""
        if not self._is_prepared:  # called before training, testing and every analysis
            unpack_mnist(self.root / "MNIST" / "raw")
            self._is_prepared = True
