"""Loader of data on disk: window after window, the next read by a thread while the present one is used."""

import threading
from collections.abc import Generator
from contextlib import closing

import torch
from torch import Tensor

from sparse_ae.data.loader import Loader
from sparse_ae.data.order import Window
from sparse_ae.data.rows import Rows


class DiskLoader(Loader[Rows]):
    """Batches of ``rows (n, D)``, ascending in their file, in the order of ``sampler``.

    The batches are those of a ``ResidentLoader`` with the same sampler. At most two windows of the sampler are in
    memory, as stored. An exception of ``rows`` is raised by the iterator, which ends with it. An iterator that is
    closed or collected ends its thread at the next block.
    """

    def chunks(self) -> Generator[Tensor, None, None]:
        """Yield the rows of each batch, which may come from two windows."""
        with closing(_Windows(self)) as windows:
            while parts := windows.take(self.batch_size):
                yield parts[0] if len(parts) == 1 else torch.cat(parts)

    def buffer(self) -> Tensor:
        """Return memory for one window."""
        return torch.empty(self.sampler.largest_window, self.rows.dim, dtype=self.rows.dtype)


class _Windows:
    """The window in memory from which rows are taken, and the one after it, which a thread reads."""

    def __init__(self, loader: DiskLoader) -> None:
        self._loader = loader
        self._to_read = loader.sampler.windows()
        self._next_to_read = next(self._to_read, None)
        self._spare: Tensor | None = None
        self._rows = self._order = torch.empty(0, dtype=torch.int64)
        self._ahead = self._read_ahead()

    def take(self, count: int) -> list[Tensor]:
        """Return the next ``count`` rows in one part per window, fewer at the end of the epoch."""
        parts = []
        while count and (len(self._order) or self._advance()):
            order, self._order = self._order[:count], self._order[count:]
            parts.append(self._rows.index_select(0, order))
            count -= len(order)
            if not len(self._order):
                self._release()
        return parts

    def close(self) -> None:
        """End the thread."""
        if self._ahead is not None:
            self._ahead.end()

    def _advance(self) -> bool:
        """Wait for the next window and start reading the one after it; False at the end of the epoch."""
        if self._ahead is None:
            return False
        window = self._ahead.window
        self._rows = self._ahead.result()
        self._order = window.order
        self._ahead = self._read_ahead()
        return True

    def _release(self) -> None:
        """Keep the memory of the present window for the next but one; without one, free it before the last batch."""
        self._spare = self._rows if self._next_to_read else None
        self._rows = torch.empty(0)

    def _read_ahead(self) -> "_Reading | None":
        window, self._next_to_read = self._next_to_read, next(self._to_read, None)
        if window is None:
            return None
        buffer, self._spare = self._spare, None
        reading = _Reading(self._loader, window, self._loader.buffer() if buffer is None else buffer)
        reading.start()
        return reading


class _Reading(threading.Thread):
    """One window on its way from disk into ``buffer``. The thread ends with the window, and so waits for nobody."""

    def __init__(self, loader: DiskLoader, window: Window, buffer: Tensor) -> None:
        super().__init__(name="sparse_ae.data.disk", daemon=True)
        self.window = window
        self._loader = loader
        self._buffer = buffer
        self._error: BaseException | None = None
        self._is_wanted = True

    def run(self) -> None:
        """Read block after block. An exception is kept for ``result``."""
        blocks = self.window.blocks
        sizes = [stop - start for start, stop in blocks]
        try:
            for out, (start, _) in zip(self._buffer[: sum(sizes)].split(sizes), blocks, strict=True):
                if not self._is_wanted:
                    return
                self._loader.rows.read_into(out, start)
        except BaseException as error:
            self._error = error

    def result(self) -> Tensor:
        """Wait, then return the buffer or raise the exception of ``run``."""
        self.join()
        if (error := self._error) is not None:
            self._error = None  # else the traceback would hold the buffer in a cycle
            try:
                raise error
            finally:
                del error
        return self._buffer

    def end(self) -> None:
        """Stop at the end of a block, and wait for that."""
        self._is_wanted = False
        if threading.current_thread() is not self:  # the garbage collector runs in any thread
            self.join()
