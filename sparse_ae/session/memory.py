"""Data that a session has in memory, as files that any process finds: kept in the data cache, named by content."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from numpy.lib import format as npy

from sparse_ae.atomic import write_atomically
from sparse_ae.cli.overrides import written
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.files import data_root

_KINDS = "biuf"
"""NumPy's kinds of numbers: bool, int, unsigned, float."""


def kept(data: Any, labels: Any = None) -> list[str]:
    """Overrides that name ``data (n, D)`` or images ``(n, H, W)``, and the classes ``labels (n,)`` if given.

    Arrays, tensors, data frames, and what NumPy makes an array of. Each is written once into the data cache, under a
    digest of its contents, where other processes and later analyses find it. Raises ``ConfigError`` for what holds no
    numbers; everything else about the values is for the data module to check.
    """
    if data is None:
        if labels is not None:
            raise ConfigError("labels", reason="classes of no data", expected="data too")
        return []
    places = {"data": "arrays", "data.path": str(_write(_numbers(data, "data")))}
    if labels is not None:
        places["data.labels"] = str(_write(_classes(labels)))
    return written(places)


def _numbers(values: Any, name: str) -> npt.NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype is torch.bfloat16 else values).numpy()
    if isinstance(values, pd.DataFrame):
        for column, kind in values.dtypes.items():
            if getattr(kind, "kind", "O") not in _KINDS:
                raise ConfigError(name, reason=f"column {column} holds no numbers ({kind})", expected="numbers")
        values = values.to_numpy()
    if hasattr(values, "toarray"):
        reason = f"a sparse matrix of {' x '.join(map(str, values.shape))} values"
        raise ConfigError(name, reason=reason, expected=f"{name}.toarray(), if that fits into memory")
    array = np.asarray(values)
    if array.dtype.kind not in _KINDS or array.ndim < 2:
        shape = " x ".join(map(str, array.shape)) or "one value"
        raise ConfigError(name, reason=f"{shape} of {array.dtype}", expected="numbers (n, D), or images (n, H, W)")
    return array


def _classes(values: Any) -> npt.NDArray[Any]:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype.kind == "O":
        array = array.astype(str)
    if array.ndim != 1:
        raise ConfigError("labels", reason=f"an array of {array.ndim} dimensions", expected="one class for each row")
    return array


def _write(array: npt.NDArray[Any]) -> Path:
    """The file of an array, written unless it is there."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(array))
    content = array.reshape(-1).view(np.uint8).data
    digest = hashlib.sha256(header.getvalue())
    digest.update(content)
    file = data_root() / "arrays" / f"{digest.hexdigest()[:16]}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, header.getvalue(), content)
    return file
