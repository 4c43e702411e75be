"""Datasets: their splits, scale, storage and loaders."""

from sparse_ae.data.arrays import Arrays
from sparse_ae.data.device import usable_device
from sparse_ae.data.fashion_mnist import FashionMNIST
from sparse_ae.data.kmnist import KMNIST
from sparse_ae.data.loader import Batch, to_unit_interval
from sparse_ae.data.mnist import MNIST
from sparse_ae.data.module import DataModule, Samples
from sparse_ae.data.scale import Scale
from sparse_ae.data.splits import Split

__all__ = [
    "KMNIST",
    "MNIST",
    "Arrays",
    "Batch",
    "DataModule",
    "FashionMNIST",
    "Samples",
    "Scale",
    "Split",
    "to_unit_interval",
    "usable_device",
]
