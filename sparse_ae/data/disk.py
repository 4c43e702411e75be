"""Loader of data on disk: window after window, the next read by a thread while the present one is used."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing

import torch
from torch import Tensor

from sparse_ae.data.loader import Loader
from sparse_ae.data.order import Window
from sparse_ae.data.pages import Pages
from sparse_ae.data.rows import Rows

_BLOCK_BYTES = 2**21  # of a huge page: smaller blocks would keep more memory than their own rows
_PARTS = 4  # of the memory: two windows are in it, and blocks begin and end within huge pages


def block_rows(row_bytes: int) -> int:
    """Return the number of rows of a contiguous block."""
    return max(1, _BLOCK_BYTES // row_bytes)


def window_rows(window_gb: float, row_bytes: int) -> int:
    """Return the number of rows of a window, with which a ``DiskLoader`` stays within a memory of ``window_gb``."""
    return max(1, int(window_gb * 2**30 / _PARTS) // row_bytes)


class DiskLoader(Loader[Rows]):
    """Batches of ``rows (n, D)``, ascending in their file, in the order of ``sampler``.

    The batches are those of a ``ResidentLoader`` with the same sampler. At most two windows of the sampler are in
    memory, as stored: in that of the system where ``rows`` have ``pages``, else in buffers. An exception of ``rows`` is
    raised by the iterator, which ends with it. An iterator that is closed or collected ends its thread at the next
    piece that it reads.
    """

    def chunks(self) -> Generator[Tensor, None, None]:
        """Yield the rows of each batch, which may come from two windows."""
        with closing(_Windows(self)) as windows:
            while parts := windows.take(self.batch_size):
                yield parts[0] if len(parts) == 1 else torch.cat(parts)

    def memory(self) -> "_Memory":
        """Return memory for one window."""
        pages = self.rows.pages()
        return _Buffer(self.rows, self.sampler.largest_window) if pages is None else _Mapped(pages)


class _Memory(ABC):
    """Rows of one window after the other."""

    def __init__(self) -> None:
        self._left = torch.empty(0, dtype=torch.int64)

    @property
    def is_empty(self) -> bool:
        """True once all rows of the window were taken."""
        return not len(self._left)

    def take(self, count: int) -> Tensor:
        """Return the next ``count`` rows in the order of the window, fewer at its end."""
        places, self._left = self._left[:count], self._left[count:]
        return self._at(places)

    @abstractmethod
    def fill(self, window: Window) -> Iterator[None]:
        """Read the rows of ``window``, a piece before each yield."""

    @abstractmethod
    def _at(self, places: Tensor) -> Tensor:
        """Return the rows at ``places``, as ``fill`` noted them in ``_left``."""

    def leave(self) -> None:
        """End the use of the window."""
        return


class _Buffer(_Memory):
    """Rows copied."""

    def __init__(self, rows: Rows, size: int) -> None:
        super().__init__()
        self._rows = rows
        self._values = torch.empty(size, rows.dim, dtype=rows.dtype)

    def fill(self, window: Window) -> Iterator[None]:
        self._left = window.order
        sizes = [stop - start for start, stop in window.blocks]
        for out, (start, _) in zip(self._values[: sum(sizes)].split(sizes), window.blocks, strict=True):
            self._rows.read_into(out, start)
            yield

    def _at(self, places: Tensor) -> Tensor:
        return self._values.index_select(0, places)


class _Mapped(_Memory):
    """Rows in the memory of the system."""

    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self._pages = pages

    def fill(self, window: Window) -> Iterator[None]:
        positions = window.positions
        self._left = positions[window.order]
        yield from self._pages.fetch(positions)

    def _at(self, places: Tensor) -> Tensor:
        return self._pages.gather(places)

    def leave(self) -> None:
        self._pages.forget()


class _Windows:
    """The window from which rows are taken, and the one after it, which a thread reads."""

    def __init__(self, loader: DiskLoader) -> None:
        self._loader = loader
        self._to_read = loader.sampler.windows()
        self._next_to_read = next(self._to_read, None)
        self._spare: _Memory | None = None
        self._present: _Memory | None = None
        self._ahead = self._read_ahead()

    def take(self, count: int) -> list[Tensor]:
        """Return the next ``count`` rows in one part per window, fewer at the end of the epoch."""
        parts = []
        while count and (self._present or self._advance()):
            assert self._present
            part = self._present.take(count)
            parts.append(part)
            count -= len(part)
            if self._present.is_empty:
                self._leave()
        return parts

    def close(self) -> None:
        """End the thread."""
        if self._ahead is not None:
            self._ahead.end()
            self._ahead.memory.leave()
        if self._present is not None:
            self._present.leave()

    def _advance(self) -> bool:
        """Wait for the next window and start reading the one after it; False at the end of the epoch."""
        if self._ahead is None:
            return False
        self._present = self._ahead.result()
        self._ahead = self._read_ahead()
        return True

    def _leave(self) -> None:
        """Keep the memory of the present window for the next but one; without one, free it before the last batch."""
        assert self._present
        self._present.leave()
        self._spare = self._present if self._next_to_read else None
        self._present = None

    def _read_ahead(self) -> "_Reading | None":
        window, self._next_to_read = self._next_to_read, next(self._to_read, None)
        if window is None:
            return None
        memory, self._spare = self._spare, None
        reading = _Reading(window, memory or self._loader.memory())
        reading.start()
        return reading


class _Reading(threading.Thread):
    """One window on its way from disk into ``memory``. The thread ends with the window, and so waits for nobody."""

    def __init__(self, window: Window, memory: _Memory) -> None:
        super().__init__(name="sparse_ae.data.disk", daemon=True)
        self.window = window
        self.memory = memory
        self._error: BaseException | None = None
        self._is_wanted = True

    def run(self) -> None:
        """Read block after block. An exception is kept for ``result``."""
        try:
            for _ in self.memory.fill(self.window):
                if not self._is_wanted:
                    return
        except BaseException as error:
            self._error = error

    def result(self) -> _Memory:
        """Wait, then return the memory or raise the exception of ``run``."""
        self.join()
        if (error := self._error) is not None:
            self._error = None  # else the traceback would hold the memory in a cycle
            try:
                raise error
            finally:
                del error
        return self.memory

    def end(self) -> None:
        """Stop at the end of a block, and wait for that."""
        self._is_wanted = False
        if threading.current_thread() is not self:  # the garbage collector runs in any thread
            self.join()
