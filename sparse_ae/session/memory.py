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
    if isinstance(values, pd.DataFrame):
        values = _of_frame(values, name)
    array = _array(values, name)
    if array.dtype.kind not in _KINDS or array.ndim < 2:
        shape = " x ".join(map(str, array.shape)) or "one value"
        raise ConfigError(name, reason=f"{shape} of {array.dtype}", expected="numbers (n, D), or images (n, H, W)")
    return array


def _of_frame(frame: pd.DataFrame, name: str) -> npt.NDArray[Any]:
    """Values of a data frame; those of several types, or of one that has ``pd.NA``, as float64 with NaN."""
    for column, kind in frame.dtypes.items():
        if getattr(kind, "kind", "O") not in _KINDS:
            raise ConfigError(name, reason=f"column {column} holds no numbers ({kind})", expected="numbers")
    values = frame.to_numpy()
    return np.asarray(values if values.dtype.kind in _KINDS else frame.to_numpy(dtype=np.float64, na_value=np.nan))


def _classes(values: Any) -> npt.NDArray[Any]:
    array = _array(values, "labels")
    if array.ndim != 1:
        raise ConfigError("labels", reason=f"an array of {array.ndim} dimensions", expected="one class for each row")
    if array.dtype.kind == "O":
        lacking = np.flatnonzero(pd.isna(array))
        if lacking.size:
            raise ConfigError("labels", reason=f"row {lacking[0]} has no class", expected="one class for each row")
        array = array.astype(int if pd.api.types.infer_dtype(array) == "integer" else str)
    return array


def _array(values: Any, name: str) -> npt.NDArray[Any]:
    """NumPy's array of ``values``. Raises ``ConfigError`` for those that have none, or not all of their values."""
    is_tensor = isinstance(values, torch.Tensor)
    if hasattr(values, "toarray") or (is_tensor and values.layout is not torch.strided):
        reason = f"a sparse matrix of {' x '.join(map(str, values.shape))} values"
        dense = f"{name}.{'to_dense' if is_tensor else 'toarray'}()"
        raise ConfigError(name, reason=reason, expected=f"{dense}, if that fits into memory")
    if np.ma.is_masked(values):
        raise ConfigError(name, reason="an array with masked values", expected=f"{name}.filled(...)")
    if is_tensor:
        values = values.detach().cpu()
        values = (values.float() if values.dtype is torch.bfloat16 else values).numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ConfigError(name, reason="its parts differ in shape", expected="one array") from error


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
