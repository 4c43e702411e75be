"""Rows of an array on disk, read on demand: of one file, or of a folder of shards."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sparse_ae.config.errors import NOT_GIVEN, ConfigError, did_you_mean, listed
from sparse_ae.data.files import data_files, placed
from sparse_ae.data.formats import DTYPES, TEXT, Contents, FormatError, Stored, contents, load
from sparse_ae.data.pages import Pages, open_pages
from sparse_ae.data.readers import Reader, bits, open_reader

_OPEN_FILES = 16
_PIECE_BYTES = 256 * 2**20
_SPARSE = 2
"""Rows of the file per row of a subset, from which on a range is read row by row and not in one piece."""


class Rows(ABC):
    """Rows ``(n, D)``, read on demand, also by several threads at once."""

    shape: tuple[int, ...]
    """Shape of one row as stored: ``(D,)``, or ``(C, H, W)``."""
    dtype: torch.dtype
    """Type of the values as stored."""
    is_mapped: bool
    """True if rows are read from disk; False if the whole array has to be in memory once a row is read."""

    @property
    def dim(self) -> int:
        """Number of values in a row, D."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return len(self) * self.dim * self.dtype.itemsize

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows, n."""

    @abstractmethod
    def read_into(self, out: Tensor, start: int) -> None:
        """Read rows from ``start`` on into all of ``out``, contiguous ``(B, D)`` on the CPU, of type ``dtype``."""

    @abstractmethod
    def take(self, index: Tensor) -> Tensor:
        """Return rows by their int64 index ``(B,)``, in any order and repeated at will, ``(B, D)``."""

    def pages(self) -> Pages | None:
        """Map these rows anew, so that they can be used in the memory of the system; None if they have to be read."""
        return None

    def read(self, start: int, stop: int) -> Tensor:
        """Return the rows from ``start`` to before ``stop``, ``(stop - start, D)``, in memory of their own."""
        size = max(1, _PIECE_BYTES // (self.dim * self.dtype.itemsize))  # a subset reads more than it keeps
        out = torch.empty(stop - start, self.dim, dtype=self.dtype)
        for first in range(0, len(out), size):
            self.read_into(out[first : first + size], start + first)
        return out


class FileRows(Rows):
    """Rows of one array, or of several of one row shape and type, one after the other.

    At most 16 files are open at a time, and each is opened when it is first read. Reading raises ``UserError`` for a
    file that has changed since its header was read. Copies by pickle open the files anew.
    """

    def __init__(self, arrays: Sequence[Stored]) -> None:
        self.arrays = tuple(arrays)
        self.shape = arrays[0].shape[1:]
        self.dtype = DTYPES[arrays[0].dtype]
        self.is_mapped = all(array.offset is not None for array in arrays)
        self._is_swapped = arrays[0].is_swapped
        self._stops = np.cumsum([array.shape[0] for array in arrays])
        open_array: Callable[[Stored], Reader] = functools.lru_cache(maxsize=_OPEN_FILES)(open_reader)
        self._open = open_array

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return FileRows, (self.arrays,)

    def read_into(self, out: Tensor, start: int) -> None:
        stop = start + len(out)
        assert 0 <= start <= stop <= len(self), f"rows {start} to {stop} of {len(self)}"
        assert (out.dtype, *out.shape[1:]) == (self.dtype, self.dim)
        values = bits(out)
        for array, begin, end in self._overlapping(start, stop):
            first, last = max(start, begin), min(stop, end)
            self._open(array).read_into(values[first - start : last - start], first - begin)
        self._to_native_(values)

    def take(self, index: Tensor) -> Tensor:
        wanted = index.numpy()
        if len(wanted) == 0 or np.array_equal(wanted, np.arange(wanted[0], wanted[0] + len(wanted))):
            start = int(wanted[0]) if len(wanted) else 0
            return self.read(start, start + len(wanted))
        order = np.argsort(wanted, kind="stable")
        rows = wanted[order]
        assert 0 <= rows[0] <= rows[-1] < len(self), f"rows {rows[0]} to {rows[-1]} of {len(self)}"
        if (np.diff(rows) == 0).any():
            rows, place = np.unique(wanted, return_inverse=True)
            return bits(self.take(torch.from_numpy(rows)))[torch.from_numpy(place)].view(self.dtype)
        out = torch.empty(len(index), self.dim, dtype=self.dtype)
        values = bits(out)
        for array, begin, end in self._overlapping(int(rows[0]), int(rows[-1]) + 1):
            first, last = np.searchsorted(rows, [begin, end])
            if first < last:
                self._open(array).take_into(values, rows[first:last] - begin, order[first:last])
        self._to_native_(values)
        return out

    def pages(self) -> Pages | None:
        return open_pages(self.arrays)

    def _overlapping(self, start: int, stop: int) -> Iterator[tuple[Stored, int, int]]:
        """Yield the arrays with rows between ``start`` and ``stop``, each with its own first row and end."""
        first, last = np.searchsorted(self._stops, [start, stop - 1], side="right")
        for array, end in zip(self.arrays[first : last + 1], self._stops[first : last + 1].tolist(), strict=True):
            if array.shape[0] and start < stop:
                yield array, end - array.shape[0], end

    def _to_native_(self, values: Tensor) -> None:
        if self._is_swapped:
            values.numpy().byteswap(inplace=True)


class MemoryRows(Rows):
    """Rows of a tensor ``(n, ...)`` on the CPU."""

    is_mapped = False

    def __init__(self, x: Tensor) -> None:
        self.shape, self.dtype = tuple(x.shape[1:]), x.dtype
        self.x = x.flatten(1)

    def __len__(self) -> int:
        return len(self.x)

    def read_into(self, out: Tensor, start: int) -> None:
        out.copy_(self.x[start : start + len(out)])

    def read(self, start: int, stop: int) -> Tensor:
        """Return the rows from ``start`` to before ``stop``, ``(stop - start, D)``, a view."""
        return self.x[start:stop]

    def take(self, index: Tensor) -> Tensor:
        return self.x[index]


class Subset(Rows):
    """Rows ``index (n,)`` of other rows; where they ascend, a range of them is read in one piece."""

    def __init__(self, rows: Rows, index: Tensor) -> None:
        self.shape, self.dtype, self.is_mapped = rows.shape, rows.dtype, rows.is_mapped
        self.rows = rows
        self.index = index
        self._ascends = bool((index.diff() > 0).all())

    def __len__(self) -> int:
        return len(self.index)

    def read_into(self, out: Tensor, start: int) -> None:
        """Read rows; NumPy copies them in this thread alone, and PyTorch would start a team beside that of training."""
        index = self.index[start : start + len(out)]
        if not len(index):
            return
        first, last = int(index[0]), int(index[-1]) + 1
        if not self._ascends or last - first > _SPARSE * len(index):
            bits(out).numpy()[:] = bits(self.rows.take(index)).numpy()
        elif last - first == len(index):
            self.rows.read_into(out, first)
        else:
            piece = bits(self.rows.read(first, last)).numpy()
            # Other modes copy twice.
            np.take(piece, (index - first).numpy(), axis=0, out=bits(out).numpy(), mode="clip")

    def take(self, index: Tensor) -> Tensor:
        return self.rows.take(self.index[index])

    def pages(self) -> Pages | None:
        pages = self.rows.pages()
        return pages and pages.subset(self.index)


def open_rows(
    path: str | Path, key: str | None = None, *, path_option: str = "path", key_option: str = "key"
) -> FileRows:
    """Open the rows at ``path``: an array ``(n, ...)`` in a file, or in all files of a folder.

    Formats are .npy, .npz, .safetensors, and .pt or .pth. ``key`` names the array in a file of several. Only headers
    are read. Raises ``ConfigError`` about ``path_option`` or ``key_option`` for files that cannot be data.
    """
    source = _Source(path, key, path_option, key_option)
    arrays = source.arrays()
    for array in arrays:
        if len(array.shape) == 1:
            raise source.error(array, "its rows have no values of their own", "(n, D); reshape(-1, 1) for D = 1")
        if 0 in array.shape[1:]:
            raise source.error(array, "its rows have no values", "(n, D) with D > 0")
        source.check_numbers(array)
    source.check_alike(arrays, "rows of shape", [array.shape[1:] for array in arrays])
    source.check_alike(arrays, "values of type", [array.full_dtype for array in arrays])
    source.check_some(arrays)
    return FileRows(arrays)


class Labels(NamedTuple):
    """Classes of rows."""

    number: Tensor
    """Class of each row, int64 ``(n,)``; that of a string is its place in ``names``."""
    names: tuple[str, ...] = ()
    """Strings that occur, sorted; empty for numbers."""
    shards: tuple[tuple[str, int], ...] = ()
    """Name and number of rows of each file."""

    def among(self, names: Sequence[str]) -> Tensor:
        """Class of each row by the place of its string in ``names``, which several files share; numbers stay.

        >>> Labels(torch.tensor([1, 0]), ("cat", "dog")).among(["ant", "cat", "dog"])
        tensor([2, 1])
        """
        return torch.tensor([names.index(name) for name in self.names])[self.number] if self.names else self.number


def open_labels(
    path: str | Path, key: str | None = None, *, path_option: str = "path", key_option: str = "key"
) -> Labels:
    """Read the classes at ``path``, in a file or a folder as for ``open_rows``.

    The array holds integers, other whole numbers, or strings, whose classes are numbered in sorted order; it has shape
    ``(n,)`` or ``(n, 1)``. Raises ``ConfigError`` as ``open_rows`` does.
    """
    source = _Source(path, key, path_option, key_option)
    arrays = source.arrays()
    for array in arrays:
        if array.shape[1:] not in ((), (1,)):
            raise source.error(array, "not one label per row", "(n,)")
        if array.dtype != TEXT:
            source.check_numbers(array)
    source.check_alike(arrays, "labels of type", [array.full_dtype for array in arrays])
    source.check_some(arrays)
    if arrays[0].dtype == TEXT:
        texts = np.concatenate([np.asarray(load(array)).reshape(-1) for array in arrays])
        names, number = np.unique(texts, return_inverse=True)
        return Labels(torch.from_numpy(number.reshape(-1).astype(np.int64)), tuple(names.tolist()), shards(arrays))
    rows = FileRows(arrays)
    values = rows.read(0, len(rows)).view(-1)
    whole = values.frac() == 0 if values.is_floating_point() else torch.ones_like(values, dtype=torch.bool)  # inf: nan
    if not whole.all():
        row = int(whole.int().argmin())
        raise ConfigError(path_option, path, f"label {values[row].item()} in row {row}", "whole numbers or strings")
    return Labels(values.to(torch.int64), shards=shards(arrays))


def shards(arrays: Sequence[Stored]) -> tuple[tuple[str, int], ...]:
    """Return the name and the number of rows of each file."""
    return tuple((array.file.name, array.shape[0]) for array in arrays)


class _Source:
    """One place of data, as an option names it."""

    def __init__(self, path: str | Path, key: str | None, path_option: str, key_option: str) -> None:
        self.path = path
        self.key = key
        self.path_option = path_option
        self.key_option = key_option
        self.files = data_files(path, path_option=path_option)

    def arrays(self) -> list[Stored]:
        """Describe the chosen array in each file."""
        return [self._array(file) for file in self.files]

    def error(self, array: Stored, reason: str, expected: str) -> ConfigError:
        """Return the error about the shape of ``array``."""
        return self._error(array.file, f"{self._named(array)}has shape {array.shape}: {reason}", expected)

    def check_numbers(self, array: Stored) -> None:
        """Raise ``ConfigError`` unless the values are real numbers."""
        if array.dtype not in DTYPES:
            raise self._error(array.file, f"{self._named(array)}holds values of type {array.dtype}", listed(DTYPES))

    def check_alike(self, arrays: Sequence[Stored], what: str, properties: Sequence[object]) -> None:
        """Raise ``ConfigError`` naming two shards that differ in a property."""
        for array, own in zip(arrays, properties, strict=True):
            if own != properties[0]:
                first = arrays[0].file.name
                reason = f"shards disagree: {first} has {what} {properties[0]}, and {array.file.name} {own}"
                raise ConfigError(self.path_option, self.path, reason)

    def check_some(self, arrays: Sequence[Stored]) -> None:
        """Raise ``ConfigError`` if there are no rows."""
        if not any(array.shape[0] for array in arrays):
            raise self.error(arrays[0], "no rows", "at least one row")

    def _array(self, file: Path) -> Stored:
        try:
            return self._described(file)
        except FormatError as error:
            raise self._error(file, error.reason, error.expected) from error
        except OSError as error:
            raise self._error(file, f"cannot be read ({error.strerror or error})", "") from error

    def _described(self, file: Path) -> Stored:
        found = contents(file)
        array = found[self._chosen(file, found)]()
        if array.shape == ():
            raise FormatError(f"{self._named(array)}holds a single number", "an array (n, ...)")
        return array

    def _chosen(self, file: Path, found: Contents) -> str:
        """Return the key of the array in ``file`` that ``key`` chooses."""
        if self.key is None:
            if len(found) > 1:
                raise ConfigError(self.key_option, NOT_GIVEN, f"{file.name} holds several arrays", listed(found))
            return next(iter(found))
        if self.key in found:
            return self.key
        if list(found) == [""]:
            raise ConfigError(self.key_option, self.key, f"{file.name} holds one array, without a name", "no key")
        raise ConfigError(
            self.key_option, self.key, f"not in {file.name}{did_you_mean(self.key, found)}", listed(found)
        )

    def _error(self, file: Path, reason: str, expected: str) -> ConfigError:
        shard = f"{file.name}: " if placed(self.path) != file else ""
        return ConfigError(self.path_option, self.path, f"{shard}{reason}", expected)

    @staticmethod
    def _named(array: Stored) -> str:
        return f"{array.name} " if array.name else ""
