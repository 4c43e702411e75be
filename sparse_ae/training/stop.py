"""Ctrl-C, a scheduler's signals and a lost connection: stop after the current step, with a checkpoint."""

import os
import signal
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
"""Signals that ask to stop; schedulers announce the end of a job with any but the first."""


class Stopped(SystemExit):
    """Request to stop a run; exit code 128 + signal, as in shells: 143 for SIGTERM, 130 for Ctrl-C."""

    def __init__(self, signum: int, reason: str = "") -> None:
        """``reason`` is that of whoever sent the signal; without one it is the signal's name."""
        super().__init__(128 + signum)
        self.reason = reason or ("Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name)


def catch(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> dict[int, Any]:
    """Let ``handler``, which may be ``SIG_IGN``, handle ``SIGNALS``; returns the handlers that it replaces.

    A signal that is ignored stays ignored: ``nohup`` has asked for that, or the shell that started a background job.
    Outside of the main thread there is nothing to catch: Python tells signals to that one alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def restore(handlers: Mapping[Any, Any]) -> None:
    """Set ``handlers``, such as those that ``catch`` returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def leave_console(signum: int) -> None:
    """After SIGHUP, send output to nowhere unless it goes into a file: writing to a lost terminal is an error."""
    if signal.Signals(signum).name != "SIGHUP":
        return
    for descriptor in (1, 2):
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:  # it may be closed
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.dup2(nowhere.fileno(), descriptor)


class StopSignals:
    """Raises ``Stopped`` on a signal inside ``with``: at once, or after ``defer()`` only where ``now()`` is called.

    A second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.ask_why: Callable[[], str] = str
        """Called for the reason of a request, where its sender has left one; empty without."""
        self._deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = catch(self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        restore(self._before)

    def take_over(self) -> None:
        """Replace Lightning's handler of SIGTERM, which it sets in each stage and which waits for other ranks."""
        if self._before:
            catch(self._note)

    def defer(self) -> None:
        """Only note requests from here on."""
        self._deferred = True
        self.take_over()

    def resume(self) -> None:
        """Stop at once again from here on."""
        self._deferred = False
        if self.requested is not None:
            self.now()

    def now(self) -> NoReturn:
        """Raise ``Stopped``, also on a rank that got no signal itself."""
        raise Stopped(self.requested or signal.SIGTERM, self.ask_why())

    def _note(self, signum: int, frame: FrameType | None) -> None:
        leave_console(signum)
        impatient = self.requested == signum == signal.SIGINT
        first = self.requested is None
        self.requested = self.requested or signum
        if impatient or (first and not self._deferred):
            self.now()
