"""Pruning: trials of a search that are stopped early, by their curves on the validation split."""

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from sparse_ae.reporting.curves import read_curves
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.process import StopFile

if TYPE_CHECKING:  # it imports Optuna, which is an extra
    from sparse_ae.sweeps.study import Judge

_POLL_SECONDS = 1.0


class Pruning:
    """Inside ``with``, read the curves of ``trials`` while they train, and stop those that ``judge`` prunes.

    A trial's values are judged in the order of its validations, and compared only with trials of earlier batches. So
    the same trials are pruned however fast each runs, and one that ended before it was stopped is pruned all the same,
    unless it failed.
    """

    def __init__(self, judge: "Judge", trials: Mapping[int, Run], metric: str, stop: StopFile) -> None:
        self.curves: dict[int, list[float]] = {number: [] for number in trials}
        """Values of each trial's validations, those of a pruned one up to the last that counted."""
        self.pruned: set[int] = set()
        """Numbers of the trials that are pruned."""
        self._judge, self._trials, self._metric, self._stop_file = judge, dict(trials), metric, stop
        self._sizes = dict.fromkeys(trials, 0)
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Pruning":
        for run in self._trials.values():
            self._stop_file.take_back(run)  # that of an earlier trial may have been pruned
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            if self._error is not None:
                raise self._error
            self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            try:
                self._look()
            except OSError:  # a job has just replaced its files: the next look finds them
                continue
            except Exception as error:  # raised where the search waits
                self._error = error
                return

    def _look(self) -> None:
        for number, run in self._trials.items():
            if number in self.pruned:
                continue
            size = sum(path.stat().st_size for path in [*run.event_files, run.metrics_table] if path.exists())
            if size != self._sizes[number]:
                self._read(number, run)
                self._sizes[number] = size

    def _read(self, number: int, run: Run) -> None:
        curve = read_curves(run, [self._metric]).get(self._metric)
        values = [] if curve is None else [float(value) for value in curve.value]
        last = self._judge.pruned_at(values, judged=len(self.curves[number]))
        self.curves[number] = values[:last]
        if last is not None:
            self.pruned.add(number)
            self._stop_file.ask(run, f"pruned at validation {last}, with {self._metric} {values[last - 1]:.4g}")
