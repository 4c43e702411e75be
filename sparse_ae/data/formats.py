"""Arrays in files: what the headers say of them, and where their values lie. No value is read to find that out.

Every format keeps the values of an array as one piece of raw bytes, so that rows are read with plain reads at an
offset. Two kinds have no offset and are loaded as a whole: compressed ``.npz`` members, and ``.pt`` tensors that are
neither C- nor Fortran-contiguous. Old versions of torch tell no offsets of ``.pt`` tensors, which are then all loaded.
"""

import json
import math
import os
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sparse_ae.config.errors import UserError
from sparse_ae.data.files import file_format

_SAFETENSORS = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""Types of values by their code in .safetensors."""

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _SAFETENSORS.values()}
"""Types of values that can be data."""

TEXT = "str"
"""Type of an array of strings, which can only be labels."""

_PICKLED = "holds Python objects, which are not loaded, since they can run code"


class FormatError(Exception):
    """A file that cannot hold data: ``reason``, a clause, and what is ``expected``."""

    def __init__(self, reason: str, expected: str = "") -> None:
        super().__init__(reason, expected)
        self.reason = reason
        self.expected = expected


class Stamp(NamedTuple):
    """Size and time by which a changed file is recognised."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file with this status."""
        return cls(status.st_size, status.st_mtime_ns)

    def check(self, status: os.stat_result, file: Path) -> None:
        """Raise ``UserError`` naming ``file`` unless it has this stamp."""
        if Stamp.of(status) != self:
            raise UserError(str(file), reason="has changed since it was opened; repeat the command")


@dataclass(frozen=True)
class Stored:
    """Array in a file."""

    file: Path
    stamp: Stamp
    """Size and time of the file when its header was read."""
    name: str
    """Key of the array; empty in a file that holds a single one without a name."""
    shape: tuple[int, ...]
    dtype: str
    """Name of the type, such as ``float32``; see ``DTYPES``."""
    offset: int | None
    """Place of the first value in the file; None if the array has to be loaded as a whole."""
    is_fortran: bool = False
    """True if the values are in Fortran order: column after column."""
    is_swapped: bool = False
    """True if the values are in the other byte order than this machine's."""

    @property
    def itemsize(self) -> int:
        """Bytes of a value, of a type in ``DTYPES``."""
        return DTYPES[self.dtype].itemsize

    @property
    def full_dtype(self) -> str:
        """Name of the type with its byte order."""
        return f"{self.dtype} in the other byte order" if self.is_swapped else self.dtype


Contents = Mapping[str, Callable[[], Stored]]
"""Arrays in a file by name, each as a function that describes it."""


def contents(file: Path) -> Contents:
    """Return the arrays in ``file``. Raises ``FormatError`` for a damaged or empty file and for pickled objects, and so
    do the functions that are returned; ``OSError`` if the file cannot be read.
    """
    stamp = Stamp.of(file.stat())
    if stamp.size == 0:
        raise FormatError("is empty, 0 bytes")
    arrays = _READ[file_format(file) or ""](file, stamp)
    if not arrays:
        raise FormatError("holds no arrays")
    return arrays


def load(stored: Stored) -> np.ndarray[Any, Any] | Tensor:
    """Load an array as a whole. Raises ``UserError`` if it is damaged or has changed."""
    file = stored.file
    try:
        array = _LOAD[file_format(file) or ""](file, stored.name)
    except (*_DAMAGE, KeyError) as error:
        raise UserError(str(file), reason=f"damaged ({_first_line(error)})") from error
    stored.stamp.check(file.stat(), file)
    return array


def _load_npy(file: Path, name: str) -> np.ndarray[Any, Any]:
    return np.load(file, allow_pickle=False)  # type: ignore[no-any-return]


def _load_npz(file: Path, name: str) -> np.ndarray[Any, Any]:
    with np.load(file, allow_pickle=False) as archive:
        return archive[name]  # type: ignore[no-any-return]


def _load_pt(file: Path, name: str) -> Tensor:
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    tensor: Tensor = next(loaded[key] for key in loaded if str(key) == name) if name else loaded
    return tensor


def _npy(file: Path, stamp: Stamp) -> Contents:
    def describe() -> Stored:
        with file.open("rb") as stream:
            return _described(file, stamp, "", stream, stamp.size)

    return {"": describe}


def _npz(file: Path, stamp: Stamp) -> Contents:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    except _DAMAGE as error:
        raise FormatError("not an .npz file, or a truncated one") from error
    return {name.removesuffix(".npy"): partial(_npz_member, file, stamp, name) for name in names}


def _npz_member(file: Path, stamp: Stamp, name: str) -> Stored:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(name) as member:
            info = archive.getinfo(name)
            stored = _described(file, stamp, name.removesuffix(".npy"), member, info.file_size)
    except _DAMAGE as error:
        raise FormatError(f"damaged ({_first_line(error)})") from error
    if info.compress_type != zipfile.ZIP_STORED or stored.offset is None:
        return replace(stored, offset=None, is_fortran=False, is_swapped=False)
    with file.open("rb") as stream:
        stream.seek(info.header_offset + 26)  # of the member's own header: lengths of its name and its extra field
        start = info.header_offset + 30 + sum(struct.unpack("<HH", stream.read(4)))
    _check_length(start + info.file_size, stamp.size)
    return replace(stored, offset=start + stored.offset)


def _described(file: Path, stamp: Stamp, name: str, stream: Any, length: int) -> Stored:
    """Describe the array in the .npy format at the start of ``stream``, of ``length`` bytes."""
    shape, is_fortran, dtype = _npy_header(stream)
    if dtype.hasobject:
        raise FormatError(_PICKLED, "an array of numbers")
    offset = stream.tell()
    _check_length(offset + math.prod(shape) * dtype.itemsize, length)
    kind = TEXT if dtype.kind == "U" else dtype.name
    is_fortran = is_fortran and len(shape) > 1
    return Stored(file, stamp, name, shape, kind, offset, is_fortran, is_swapped=not dtype.isnative)


def _npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        else:  # 3.0 differs from 2.0 in the names of fields alone, and arrays with fields are no data
            header = np.lib.format.read_array_header_2_0(stream)
    except ValueError as error:
        raise FormatError(f"not an .npy array, or a truncated one ({_first_line(error)})") from error
    if min(header[0], default=0) < 0:
        raise FormatError(f"damaged (its header says shape {header[0]})")
    return header


def _safetensors(file: Path, stamp: Stamp) -> Contents:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            _check_length(8 + length, stamp.size)
            header = json.loads(stream.read(length))
        described = {
            name: _safetensor(file, stamp, name, entry, 8 + length)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise FormatError("damaged: its header is not that of a .safetensors file") from error
    return {name: partial(_checked_length, stored) for name, stored in described.items()}


def _safetensor(file: Path, stamp: Stamp, name: str, entry: dict[str, Any], start: int) -> Stored:
    shape = tuple(map(int, entry["shape"]))
    begin, end = map(int, entry["data_offsets"])
    dtype = _SAFETENSORS.get(entry["dtype"], str(entry["dtype"]))
    if min(shape, default=0) < 0 or begin < 0:
        raise ValueError
    if dtype in DTYPES and end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError
    return Stored(file, stamp, name, shape, dtype, start + begin, is_swapped=sys.byteorder == "big")


def _pt(file: Path, stamp: Stamp) -> Contents:
    try:
        with zipfile.ZipFile(file) as archive:  # a legacy file is a bare pickle
            is_raw = all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
            orders = {archive.read(name) for name in archive.namelist() if name.endswith("/byteorder")}
        if orders - {sys.byteorder.encode()}:  # torch 2.15 crashes on it
            raise FormatError("written by a machine of the other byte order", "a file of torch.save on this machine")
        loaded = torch.load(file, map_location="meta", weights_only=True, mmap=True)  # shapes, without values
    except zipfile.BadZipFile as error:
        raise FormatError("not a file of torch.save from torch 1.6 on, or a truncated one") from error
    except pickle.UnpicklingError as error:
        raise FormatError(_PICKLED, "a tensor, or a dict of tensors") from error
    except (*_DAMAGE, AssertionError) as error:
        raise FormatError(f"cannot be read ({_first_line(error)})") from error
    if not isinstance(loaded, Tensor | Mapping):
        raise FormatError(f"holds a {type(loaded).__name__}", "a tensor, or a dict of tensors")
    tensors = {"": loaded} if isinstance(loaded, Tensor) else loaded
    arrays = {
        str(name): _stored(file, stamp, str(name), tensor, is_raw)
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
    }
    return {name: partial(_checked_length, stored) for name, stored in arrays.items()}


def _stored(file: Path, stamp: Stamp, name: str, tensor: Tensor, is_raw: bool) -> Stored:
    dtype = str(tensor.dtype).removeprefix("torch.")
    stored = Stored(file, stamp, name, tuple(tensor.shape), dtype, None)
    start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    is_fortran = not tensor.is_contiguous() and tensor.permute(*reversed(range(tensor.ndim))).is_contiguous()
    if start is None or not is_raw or tensor.is_neg() or not (tensor.is_contiguous() or is_fortran):
        return stored
    offset = start + tensor.storage_offset() * tensor.element_size()
    return replace(stored, offset=offset, is_fortran=is_fortran)


def _checked_length(stored: Stored) -> Stored:
    if stored.offset is not None and stored.dtype in DTYPES:
        _check_length(stored.offset + math.prod(stored.shape) * stored.itemsize, stored.stamp.size)
    return stored


def _check_length(promised: int, there: int) -> None:
    if promised > there:
        raise FormatError(f"truncated: its header promises {promised} bytes, and there are {there}")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


_DAMAGE = (EOFError, NotImplementedError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""Errors of zipfile, NumPy and torch about a damaged file, or one with a feature that they do not know."""

_READ: dict[str, Callable[[Path, Stamp], Contents]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _pt,
}

_LOAD: dict[str, Callable[[Path, str], np.ndarray[Any, Any] | Tensor]] = {
    ".npy": _load_npy,
    ".npz": _load_npz,
    ".pt": _load_pt,
}
