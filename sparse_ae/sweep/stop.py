"""How a sweep asks its jobs to stop, wherever they run: by a file."""

import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from sparse_ae.sweep.process import STOP_PREFIX

_STALE_SECONDS = 7 * 24 * 3600
"""A file that asks jobs to stop, for those in a queue, is kept so long."""


class StopWaitingError(BaseException):
    """The sweep was asked to stop while it waited for jobs that may be in a queue."""


class StopFile:
    """Inside ``with``, Ctrl-C and SIGTERM make a file by which every job, wherever it runs, is asked to stop."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / f"{STOP_PREFIX}{secrets.token_hex(4)}"
        self.signal: int | None = None
        self.breaks_off = False
        """Whether to raise ``StopWaitingError`` too."""
        self._keep = False

    def __enter__(self) -> "StopFile":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        for stale in self.path.parent.glob(f"{STOP_PREFIX}*"):
            with suppress(FileNotFoundError):  # of a sweep that has just ended
                if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                    stale.unlink()
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if not self._keep:
            self.path.unlink(missing_ok=True)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: no more patience, and jobs that have not seen the file yet
            self._keep = True
            raise KeyboardInterrupt
        self.signal = number
        self.path.touch()
        print("\nstopping: the jobs save what they have", file=sys.stderr, flush=True)
        if self.breaks_off:
            self._keep = True  # for jobs that have not begun
            raise StopWaitingError
