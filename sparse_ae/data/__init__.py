"""Datasets: their splits, scale, storage and loaders.

Names are resolved on first use: the command line identifies files without torch, which takes a second to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_ae.data.activations.module import Activations
    from sparse_ae.data.arrays import Arrays
    from sparse_ae.data.device import usable_device
    from sparse_ae.data.fashion_mnist import FashionMNIST
    from sparse_ae.data.images import ImageFolder
    from sparse_ae.data.kmnist import KMNIST
    from sparse_ae.data.loader import Batch, to_unit_interval
    from sparse_ae.data.mnist import MNIST
    from sparse_ae.data.module import DataModule, Samples
    from sparse_ae.data.natural_patches import NaturalPatches
    from sparse_ae.data.scale import Scale
    from sparse_ae.data.splits import Split
    from sparse_ae.data.synthetic import Synthetic

_MODULES = {
    "Activations": "activations.module",
    "Arrays": "arrays",
    "Batch": "loader",
    "DataModule": "module",
    "FashionMNIST": "fashion_mnist",
    "ImageFolder": "images",
    "KMNIST": "kmnist",
    "MNIST": "mnist",
    "NaturalPatches": "natural_patches",
    "Samples": "module",
    "Scale": "scale",
    "Split": "splits",
    "Synthetic": "synthetic",
    "to_unit_interval": "loader",
    "usable_device": "device",
}

__all__ = [
    "KMNIST",
    "MNIST",
    "Activations",
    "Arrays",
    "Batch",
    "DataModule",
    "FashionMNIST",
    "ImageFolder",
    "NaturalPatches",
    "Samples",
    "Scale",
    "Split",
    "Synthetic",
    "to_unit_interval",
    "usable_device",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
