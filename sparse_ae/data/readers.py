"""Readers of the rows of one array: plain reads at offsets, so that memory holds what was asked for and no more.

A reader works on bits: values are integers of the size of the array's own type, in the byte order of the file.
Readers may be used by several threads at once.
"""

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_ae.config.errors import UserError
from sparse_ae.data.formats import Stamp, Stored, load

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_BUFFERS_PER_READ = 1024  # the system's limit
_COLUMN_BYTES = 32 * 2**20  # of columns in memory at a time
_GAP = 1024  # rows of a column that are rather read than skipped
_SPAN = 2**22  # rows of a column in memory at a time


def bits(values: Tensor) -> Tensor:
    """View ``values`` as integers of the same size."""
    return values.view(_BITS[values.element_size()])


class Reader(ABC):
    """Rows of one array."""

    @abstractmethod
    def read_into(self, out: Tensor, start: int) -> None:
        """Read rows from ``start`` on into all of ``out (B, D)``."""

    @abstractmethod
    def take_into(self, out: Tensor, rows: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Read ``rows``, ascending and different, into the rows ``places`` of ``out``."""


def open_reader(stored: Stored) -> Reader:
    """Open a reader of an array with values of a type in ``DTYPES``."""
    if stored.offset is None:
        return MemoryReader(stored)
    return ColumnReader(stored) if stored.is_fortran else RowReader(stored)


class RowReader(Reader):
    """Rows one after the other in a file."""

    def __init__(self, stored: Stored) -> None:
        assert stored.offset is not None
        self.file = File(stored.file, stored.stamp)
        self.offset = stored.offset
        self.itemsize = stored.itemsize
        self.row_bytes = values_per_row(stored) * stored.itemsize

    def read_into(self, out: Tensor, start: int) -> None:
        self.file.read([_buffer(out)], self.offset + start * self.row_bytes)
        self.file.check()

    def take_into(self, out: Tensor, rows: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        buffer, width = _buffer(out), self.row_bytes
        begins = [place * width for place in places.tolist()]
        for first, last in pairwise(breaks(np.diff(rows) != 1, len(rows))):
            parts = [buffer[begin : begin + width] for begin in begins[first:last]]
            self.file.read(parts, self.offset + int(rows[first]) * width)
        self.file.check()


class ColumnReader(Reader):
    """Columns one after the other in a file, as Fortran order has them; a few are in memory at a time.

    Every column takes a read of its own, so that rows far apart from each other are read slowly.
    """

    def __init__(self, stored: Stored) -> None:
        assert stored.offset is not None
        self.file = File(stored.file, stored.stamp)
        self.offset = stored.offset
        self.itemsize = stored.itemsize
        self.column_bytes = stored.shape[0] * self.itemsize
        # Within a row, too, the first index varies fastest.
        self.columns = np.arange(values_per_row(stored)).reshape(stored.shape[:0:-1]).T.ravel().tolist()

    def read_into(self, out: Tensor, start: int) -> None:
        for chosen, values in self._blocks(start, start + len(out)):
            out[:, chosen] = values.T
        self.file.check()

    def take_into(self, out: Tensor, rows: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        apart = (np.diff(rows) > _GAP) | (np.diff(rows // _SPAN) > 0)
        where = torch.from_numpy(places)
        for first, last in pairwise(breaks(apart, len(rows))):
            wanted = torch.from_numpy(rows[first:last] - rows[first])
            for chosen, values in self._blocks(int(rows[first]), int(rows[last - 1]) + 1):
                out[where[first:last], chosen] = values[:, wanted].T
        self.file.check()

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of columns: their slice of the row, and their values in rows start to stop, transposed."""
        size = (stop - start) * self.itemsize
        n_columns = max(1, _COLUMN_BYTES // size)
        for first in range(0, len(self.columns), n_columns):
            columns = self.columns[first : first + n_columns]
            values = torch.empty(len(columns), stop - start, dtype=_BITS[self.itemsize])
            buffer = _buffer(values)
            for i, column in enumerate(columns):
                place = self.offset + column * self.column_bytes + start * self.itemsize
                self.file.read([buffer[i * size : (i + 1) * size]], place)
            yield slice(first, first + len(columns)), values


class MemoryReader(Reader):
    """Rows of an array that had to be loaded as a whole."""

    def __init__(self, stored: Stored) -> None:
        array = load(stored)
        if not isinstance(array, Tensor):
            array = torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
        self.values = bits(array.detach().resolve_neg().reshape(len(array), -1).contiguous())

    def read_into(self, out: Tensor, start: int) -> None:
        out.copy_(self.values[start : start + len(out)])

    def take_into(self, out: Tensor, rows: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        out[torch.from_numpy(places)] = self.values[torch.from_numpy(rows)]


class File:
    """File open for reading, closed with its last reference."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self.path = path
        self.stamp = stamp
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self.check()

    def check(self) -> None:
        """Raise ``UserError`` if the file has changed since its header was read."""
        self.stamp.check(os.fstat(self.descriptor), self.path)

    def read(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill ``buffers`` one after the other with the bytes from ``offset`` on."""
        left = [buffer for buffer in buffers if len(buffer)][::-1]
        while left:
            count = self._read(left[: -_BUFFERS_PER_READ - 1 : -1], offset)
            offset += count
            while left and count >= len(left[-1]):
                count -= len(left.pop())
            if count:
                left[-1] = left[-1][count:]

    def _read(self, buffers: Sequence[memoryview], offset: int) -> int:
        try:
            count = os.preadv(self.descriptor, buffers, offset)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        if count == 0:
            self.check()
            raise UserError(str(self.path), reason=f"ends before byte {offset}")
        return count


def values_per_row(stored: Stored) -> int:
    """Return the number of values in a row."""
    return int(np.prod(stored.shape[1:], dtype=np.int64))


def breaks(apart: NDArray[np.bool_], length: int) -> list[int]:
    """Return the bounds of the pieces into which ``apart``, between neighbours, cuts a sequence of ``length``."""
    return [0, *(np.flatnonzero(apart) + 1).tolist(), length]


def _buffer(values: Tensor) -> Any:
    """Return the memory of contiguous ``values`` as bytes."""
    assert values.is_contiguous()
    return values.view(-1).view(torch.uint8).numpy().data
