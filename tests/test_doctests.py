"""Examples in docstrings do as they say."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import sparse_ae

PARTS = (
    "functional",
    "metrics",
    "sparsity",
    "models",
    "dead",
    "targets",
    "coders",
    "data",
    "plotting",
    "training.objective",
    "config",
    "sklearn",
)


def _modules() -> list[str]:
    names = []
    for part in PARTS:
        module = importlib.import_module(f"{sparse_ae.__name__}.{part}")
        names.append(module.__name__)
        below = pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}.")
        names += [info.name for info in below]
    return names


@pytest.mark.parametrize("name", _modules())
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
