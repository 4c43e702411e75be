"""Memory that a model would take, known before it is built."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import psutil
import torch

from sparse_ae.config.errors import ConfigError
from sparse_ae.models import build_autoencoder


def check_memory(network: Mapping[str, Any], sparsity: Mapping[str, Any], *, input_dim: int) -> None:
    """Raise ``ConfigError`` about the largest size of a ``model`` spec if its weights alone exceed the free memory."""
    size, key, value = max(_sizes(network), default=(0, "", 0))
    check_bytes(f"model.{key}", value, size)  # sizes beyond counting
    try:
        with torch.device("meta"):  # shapes without memory
            model = build_autoencoder(network, sparsity, input_dim=input_dim)
    except (ConfigError, NotImplementedError, RuntimeError):  # it reads its weights, or is refused when built
        return
    check_bytes(f"model.{key}", value, sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers())))


def check_bytes(key: str, value: Any, needed: int) -> None:
    """Raise ``ConfigError`` if a ``value`` of ``key`` takes at least ``needed`` bytes and fewer are free."""
    free = psutil.virtual_memory().available
    if needed > free:
        reason = f"takes at least {needed / 2**30:,.0f} GiB of memory, and {free / 2**30:,.0f} GiB are free"
        raise ConfigError(key, value, reason)


def _sizes(network: Mapping[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """Each whole number of a spec with its key and that key's value."""
    for key, value in network.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                yield item, key, value
