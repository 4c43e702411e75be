"""Training curves, read from TensorBoard's event files or from the table of the CSV logger."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparse_ae.run.directory import Run

_SCALARS_ONLY = {"scalars": 0, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1}
"""Number of events to keep of each kind; 0 keeps all."""


class Curve(NamedTuple):
    """One scalar over training."""

    step: npt.NDArray[np.int64]
    """Training steps ``(T,)``, increasing."""
    value: npt.NDArray[np.float64]
    """Values ``(T,)``."""


def read_curves(run: Run, tags: Sequence[str]) -> dict[str, Curve]:
    """Return those of ``tags`` that the run has logged; see ``read_all_curves``."""
    curves = read_all_curves(run)
    return {tag: curves[tag] for tag in tags if tag in curves}


def read_all_curves(run: Run) -> dict[str, Curve]:
    """Return every scalar that the run has logged, joined over all of its event files; without any, of its table.

    A resumed run has several event files, and a running one may be writing one now.
    """
    if not run.event_files:
        return _read_table(run)
    events = EventAccumulator(str(run.path), size_guidance=_SCALARS_ONLY)
    events.Reload()
    return {tag: _curve((e.step, e.value) for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


def _read_table(run: Run) -> dict[str, Curve]:
    """Scalars of ``metrics.csv``; a line that is still being written is left out."""
    if not run.metrics_table.exists():
        return {}
    points = defaultdict(list)
    with run.metrics_table.open(newline="") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    points[name].append((step, float(value)))
    return {name: _curve(found) for name, found in points.items()}


def _curve(points: Iterable[tuple[int, float]]) -> Curve:
    """Join points in the order of logging. A run that was killed may log a step twice; the later value counts."""
    kept: list[tuple[int, float]] = []
    for step, value in points:
        while kept and kept[-1][0] >= step:
            kept.pop()
        kept.append((step, value))
    return Curve(np.array([step for step, _ in kept]), np.array([value for _, value in kept], dtype=float))
