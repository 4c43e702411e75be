"""Pruning: trials of a search that are stopped early, by their curves on the validation split."""

import math
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from sparse_ae.reporting.curves import read_curves
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.process import StopFile

if TYPE_CHECKING:  # it imports Optuna, which is an extra
    from sparse_ae.sweeps.study import Study

_POLL_SECONDS = 1.0


class Pruning:
    """Inside ``with``, read the curves of ``trials`` while they train, and stop those that the study prunes.

    A trial's values are judged in the order of its validations, and compared only with trials that are complete. So
    the same trials are pruned however fast each runs, and one that ended before it was stopped is pruned all the same.
    """

    def __init__(self, study: "Study", trials: Mapping[int, Run], stop: StopFile) -> None:
        self._study, self._trials, self._stop_file = study, dict(trials), stop
        self._sizes = dict.fromkeys(trials, 0)
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
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        for number, run in list(self._trials.items()):
            size = sum(path.stat().st_size for path in [*run.event_files, run.metrics_table] if path.exists())
            if size != self._sizes[number]:
                self._sizes[number] = size
                self._judge(number, run)

    def _judge(self, number: int, run: Run) -> None:
        (metric,) = self._study.metric
        curve = read_curves(run, [metric]).get(metric)
        values = [] if curve is None else [float(value) for value in curve.value]
        for validation, value in enumerate(values, start=1):
            if math.isfinite(value) and self._study.prunes(number, validation, value):
                self._stop_file.ask(run, f"pruned at validation {validation}, with {metric} {value:.4g}")
                del self._trials[number]
                return
