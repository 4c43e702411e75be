"""Rows in the system's own memory of their files: gathered from there, without a copy between."""

import contextlib
import ctypes
import mmap
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sparse_ae.data.formats import DTYPES, Stored
from sparse_ae.data.readers import File, bits, breaks, values_per_row

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_POPULATE_READ = 22  # since Linux 5.14; Python has no name for it

_MAPPED_FILES = 16
_GAP_BYTES = 2**16  # rather fetched than skipped
_PIECE_BYTES = 2**22
_READ_BYTES = 2**20


class Pages:
    """Rows ``(n, D)`` of files in the system's memory; ``fetch``, then ``gather``, and at last ``forget``.

    ``index (n,)`` says which rows of the files, one after the other, they are; None for all. Rows are named by int64
    numbers ``(B,)``, in any order and repeated at will. Files must be in the order and the form of ``open_pages``.
    """

    def __init__(self, files: Sequence["_MappedRows"], dtype: torch.dtype, index: Tensor | None = None) -> None:
        self._files = files
        self._dtype = dtype
        self._index = index
        self._stops = torch.tensor([file.n_rows for file in files]).cumsum(0)

    def subset(self, index: Tensor) -> "Pages":
        """Return the rows ``index (m,)`` of these, with the same memory."""
        return Pages(self._files, self._dtype, self._in_files(index))

    def fetch(self, rows: Tensor) -> Iterator[None]:
        """Have the system read ``rows``, a piece before each yield. Raises what reading raises."""
        for file, start, stop in self._pieces(rows):
            file.fetch(start, stop)
            yield

    def gather(self, rows: Tensor) -> Tensor:
        """Return ``rows`` as stored, ``(B, D)``. Others than those fetched may end the process by a signal."""
        rows = self._in_files(rows)
        if len(self._files) == 1:
            return self._files[0].gather(rows).view(self._dtype)
        out = bits(torch.empty(len(rows), self._files[0].dim, dtype=self._dtype))
        number = torch.bucketize(rows, self._stops, right=True)
        for i in number.unique().tolist():
            places = (number == i).nonzero().view(-1)
            out[places] = self._files[i].gather(rows[places] - self._first(i))
        return out.view(self._dtype)

    def forget(self) -> None:
        """Take all rows out of this process's memory; the system keeps them while it has room."""
        for file in self._files:
            file.forget()

    def _in_files(self, rows: Tensor) -> Tensor:
        return rows if self._index is None else self._index[rows]

    def _first(self, i: int) -> int:
        return int(self._stops[i]) - self._files[i].n_rows

    def _pieces(self, rows: Tensor) -> Iterator[tuple["_MappedRows", int, int]]:
        """Yield ranges that hold ``rows``, each in one file; found all at once, as Python would hold up training."""
        if not len(rows):
            return
        wanted = np.sort(self._in_files(rows).numpy())
        row_bytes = self._files[0].row_bytes
        number = np.searchsorted(self._stops.numpy(), wanted, side="right")
        apart = np.diff(wanted) > max(1, _GAP_BYTES // row_bytes)
        apart |= (np.diff(number) > 0) | (np.diff(wanted * row_bytes // _PIECE_BYTES) > 0)
        bounds = breaks(apart, len(wanted))
        for first, last in pairwise(bounds):
            i = int(number[first])
            start = self._first(i)
            yield self._files[i], int(wanted[first]) - start, int(wanted[last - 1]) + 1 - start


def open_pages(arrays: Sequence[Stored]) -> Pages | None:
    """Map arrays of one row shape and type; None where that cannot be done, and rows have to be read.

    That is for more than 16 files, values in another order than a processor wants them, and systems that refuse.
    """
    if len(arrays) > _MAPPED_FILES or not all(_can_map(array) for array in arrays):
        return None
    try:
        return Pages([_MappedRows(array) for array in arrays], DTYPES[arrays[0].dtype])
    except OSError:  # some network file systems and limits on memory forbid it
        return None


def _can_map(stored: Stored) -> bool:
    is_plain = not stored.is_fortran and not stored.is_swapped
    return is_plain and stored.offset is not None and stored.offset % stored.itemsize == 0


class _MappedRows:
    """Rows of one array, one after the other in a file that is mapped. Raises ``OSError`` where it cannot be."""

    def __init__(self, stored: Stored) -> None:
        assert stored.offset is not None
        self.n_rows, self.dim = stored.shape[0], values_per_row(stored)
        self.row_bytes = self.dim * stored.itemsize
        self._file = File(stored.file, stored.stamp)
        self._offset = stored.offset
        self._memory = mmap.mmap(self._file.descriptor, 0, access=mmap.ACCESS_READ)
        with contextlib.suppress(OSError):  # kernels without huge pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)  # of pieces read at random, twice as fast to gather from
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that torch would let one write there
            self._bytes = torch.frombuffer(self._memory, dtype=torch.uint8)
        values = self._bytes[self._offset : self._offset + self.n_rows * self.row_bytes]
        self._rows = bits(values.view(DTYPES[stored.dtype])).view(self.n_rows, self.dim)

    def fetch(self, start: int, stop: int) -> None:
        begin, end = self._offset + start * self.row_bytes, self._offset + stop * self.row_bytes
        if not self._populate(begin, end):
            # Reading does the same, says why it cannot, and works on every system.
            piece = bytearray(_READ_BYTES)
            for place in range(begin, end, _READ_BYTES):
                self._file.read([memoryview(piece)[: end - place]], place)
        self._file.check()

    def gather(self, rows: Tensor) -> Tensor:
        self._file.check()  # a file that was cut has no pages beyond its end
        values = self._rows.index_select(0, rows)
        self._file.check()
        return values

    def forget(self) -> None:
        self._memory.madvise(mmap.MADV_DONTNEED)

    def _populate(self, begin: int, end: int) -> bool:
        """Wait until bytes ``begin`` to ``end`` are in memory; False if the system cannot or does not know how to."""
        begin -= begin % mmap.PAGESIZE
        # Unlike ``mmap.madvise``, this lets other threads of Python run.
        status: int = _madvise(self._bytes.data_ptr() + begin, end - begin, _POPULATE_READ)
        return status == 0
