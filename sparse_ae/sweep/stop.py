"""Request of a sweep that its jobs stop, wherever they run: a file."""

import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from sparse_ae.sweep.process import STOP_PREFIX

_STALE_SECONDS = 7 * 24 * 3600
"""Age at which a request that was kept for jobs in a queue is removed."""


class StopWaitingError(BaseException):
    """The sweep was asked to stop while it waited for jobs that may be in a queue."""


class StopFile:
    """Inside ``with``, Ctrl-C and SIGTERM create a file that asks every job, wherever it runs, to stop."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / f"{STOP_PREFIX}{secrets.token_hex(4)}"
        self.signal: int | None = None
        self.breaks_off = False
        """True while a signal should also raise ``StopWaitingError``."""
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
