"""What a sweep shows while it runs: one line for each job that ends, and how far the others are."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.status import Status

from sparse_ae.reporting.console import console, key_metrics
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError

_POLL_SECONDS = 0.5
_PLAIN_SECONDS = 60
"""Where the output is no terminal, progress is a line so often, not one that is rewritten."""


class Watch:
    """Inside ``with``, print what becomes of ``runs``, from their ``status.json``: so it works whoever trains them."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._ended: set[Path] = set()
        self._out = console()
        self._started = time.monotonic()
        self._shown_at = self._started
        self._share_at_start = self._share_done()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._line = Status("", console=self._out)

    def __enter__(self) -> "Watch":
        self._attempts = {run.path: _status(run).get("attempts", 0) for run in self.runs}
        if self._out.is_terminal:
            self._line.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show_ended()
        self._line.stop()

    def say(self, line: str) -> None:
        """Print a line above the progress."""
        self._out.print(line)

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._show_ended()
            self._show_progress()

    def _show_ended(self) -> None:
        for run in self.runs:
            try:
                state, status = run.state, run.status
                attempts = status.get("attempts", 0)
                if attempts <= self._attempts[run.path]:
                    continue
                if state in ("new", "running"):
                    self._ended.discard(run.path)  # it was interrupted, and its launcher started it again
                    continue
                finished = state == "finished"
                what = f"{status['wall_seconds']:.0f} s  {key_metrics(run)}" if finished else status.get("error")
            except RunError:  # a damaged file: reported at the end
                continue
            self._attempts[run.path] = attempts
            self._ended.add(run.path)
            self._out.print(f"[{len(self._ended)}/{len(self.runs)}] {run.path.name}  {state}  {what}", markup=False)

    def _show_progress(self) -> None:
        left = [run for run in self.runs if run.path not in self._ended]
        running = [run for run in left if _status(run).get("state") == "running"]
        shares = ", ".join(f"{_status(run).get('progress', 0):.0%}" for run in running)
        waiting = len(left) - len(running)
        text = f"{len(running)} running{f' ({shares})' if shares else ''}, {waiting} waiting{self._eta()}"
        now = time.monotonic()
        if self._out.is_terminal:
            self._line.update(text)
        elif now - self._shown_at >= _PLAIN_SECONDS:
            self._out.print(text, markup=False)
            self._shown_at = now

    def _share_done(self) -> float:
        """How much of all runs is trained, in runs."""
        return sum(1.0 if run.path in self._ended else _status(run).get("progress", 0.0) for run in self.runs)

    def _eta(self) -> str:
        done = self._share_done()
        gained, seconds = done - self._share_at_start, time.monotonic() - self._started
        if gained <= 0:
            return ""
        left = round((len(self.runs) - done) / gained * seconds)
        return f", about {left // 60} min {left % 60:02d} s to go" if left >= 60 else f", about {left} s to go"


def _status(run: Run) -> dict[str, Any]:
    """Empty if it cannot be read: reported at the end."""
    try:
        return run.status
    except RunError:
        return {}
