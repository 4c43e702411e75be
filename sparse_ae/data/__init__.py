"""Data modules, the loader of resident data, and the bundled MNIST."""

from sparse_ae.data.device import usable_device
from sparse_ae.data.fashion_mnist import FashionMNIST
from sparse_ae.data.kmnist import KMNIST
from sparse_ae.data.loader import Batch, to_unit_interval
from sparse_ae.data.mnist import MNIST
from sparse_ae.data.module import ImageDataModule, Images, Split
from sparse_ae.data.resident import ResidentLoader

__all__ = [
    "KMNIST",
    "MNIST",
    "Batch",
    "FashionMNIST",
    "ImageDataModule",
    "Images",
    "ResidentLoader",
    "Split",
    "to_unit_interval",
    "usable_device",
]
