"""Progress of work on data that may take hours: a bar on a terminal, elsewhere lines, as in a batch job's log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress as Bar

_PATIENCE = 1.5
"""Seconds without a bar."""
_INTERVAL = 30
"""Seconds between lines."""


class Progress:
    """Shows the share done of ``total`` and the time left; to be called with what was done since.

    Work that is over in 30 s has no lines.
    """

    def __init__(self, task: str, total: int) -> None:
        self._name, self._total, self._done = task, total, 0
        self._is_bar = sys.stderr.isatty()
        self._bar = Bar(console=Console(stderr=True), transient=True, disable=not self._is_bar)
        self._task = self._bar.add_task(task, total=total)
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, n: int) -> None:
        self._done += n
        self._bar.advance(self._task, n)
        now = time.monotonic()
        if self._is_bar:
            if now > self._begun + _PATIENCE:
                self._bar.start()
        elif self._done and now >= self._told + _INTERVAL:
            self._told = now
            left = round((self._total - self._done) / self._done * (now - self._begun))
            time_left = f"{left // 60} min {left % 60:02d} s" if left >= 60 else f"{left} s"
            share = f"{self._done:,} of {self._total:,} ({self._done / self._total:.0%})"
            print(f"{self._name}: {share}, about {time_left} to go", flush=True)
