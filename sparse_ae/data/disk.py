"""Loader of data on disk: window after window, the next read by a thread while the present one is used."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing

import torch
from torch import Tensor

from sparse_ae.data.loader import Loader
from sparse_ae.data.order import Window
from sparse_ae.data.rows import Rows


class DiskLoader(Loader[Rows]):
    """Batches of ``rows (n, D)``, ascending in their file, in the order of ``sampler``.

    The batches are those of a ``ResidentLoader`` with the same sampler. At most two windows of the sampler are in
    memory, as stored: rows with ``has_pages`` in that of the system, others in buffers. An exception of ``rows`` is
    raised by the iterator, which ends with it. An iterator that is closed or collected ends its thread at the next
    block.
    """

    def chunks(self) -> Generator[Tensor, None, None]:
        """Yield the rows of each batch, which may come from two windows."""
        with closing(_Windows(self)) as windows:
            while parts := windows.take(self.batch_size):
                yield parts[0] if len(parts) == 1 else torch.cat(parts)

    def memory(self) -> "_Memory":
        """Return memory for one window."""
        return _Pages(self.rows) if self.rows.has_pages else _Buffer(self.rows, self.sampler.largest_window)


class _Memory(ABC):
    """Rows of one window after the other."""

    @abstractmethod
    def fill(self, window: Window) -> Iterator[None]:
        """Read the rows of ``window``, a block before each yield."""

    @abstractmethod
    def take(self, order: Tensor) -> Tensor:
        """Return rows, counted from the first of the window."""

    def leave(self) -> None:
        """End the use of the window."""
        return


class _Buffer(_Memory):
    """Rows copied."""

    def __init__(self, rows: Rows, size: int) -> None:
        self._rows = rows
        self._values = torch.empty(size, rows.dim, dtype=rows.dtype)

    def fill(self, window: Window) -> Iterator[None]:
        sizes = [stop - start for start, stop in window.blocks]
        for out, (start, _) in zip(self._values[: sum(sizes)].split(sizes), window.blocks, strict=True):
            self._rows.read_into(out, start)
            yield

    def take(self, order: Tensor) -> Tensor:
        return self._values.index_select(0, order)


class _Pages(_Memory):
    """Rows in the memory of the system."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._positions = torch.empty(0, dtype=torch.int64)

    def fill(self, window: Window) -> Iterator[None]:
        self._positions = window.positions
        for start, stop in window.blocks:
            self._rows.fetch(torch.arange(start, stop))
            yield

    def take(self, order: Tensor) -> Tensor:
        return self._rows.gather(self._positions[order])

    def leave(self) -> None:
        self._rows.forget()


class _Windows:
    """The window from which rows are taken, and the one after it, which a thread reads."""

    def __init__(self, loader: DiskLoader) -> None:
        self._loader = loader
        self._to_read = loader.sampler.windows()
        self._next_to_read = next(self._to_read, None)
        self._spare: _Memory | None = None
        self._present: _Memory | None = None
        self._order = torch.empty(0, dtype=torch.int64)
        self._ahead = self._read_ahead()

    def take(self, count: int) -> list[Tensor]:
        """Return the next ``count`` rows in one part per window, fewer at the end of the epoch."""
        parts = []
        while count and (self._present or self._advance()):
            assert self._present
            order, self._order = self._order[:count], self._order[count:]
            parts.append(self._present.take(order))
            count -= len(order)
            if not len(self._order):
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
        window = self._ahead.window
        self._present = self._ahead.result()
        self._order = window.order
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
