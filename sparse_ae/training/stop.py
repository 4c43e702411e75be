"""SIGTERM and Ctrl-C: stop after the current step, with a checkpoint."""

import signal
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """Request to stop a run; exit code 128 + signal, as in shells: 143 for SIGTERM, 130 for Ctrl-C."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.reason = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


class StopSignals:
    """Raises ``Stopped`` on a signal inside ``with``: at once, or after ``defer()`` only where ``now()`` is called.

    A second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Only note requests from here on. Replaces Lightning's SIGTERM handler, which talks to other ranks."""
        self._deferred = True
        if self._before:
            for number in SIGNALS:
                signal.signal(number, self._note)

    def resume(self) -> None:
        """Stop at once again from here on."""
        self._deferred = False
        if self.requested is not None:
            self.now()

    def now(self) -> NoReturn:
        """Raise ``Stopped``, also on a rank that got no signal itself."""
        raise Stopped(self.requested or signal.SIGTERM)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        impatient = self.requested == signum == signal.SIGINT
        first = self.requested is None
        self.requested = self.requested or signum
        if impatient or (first and not self._deferred):
            self.now()
