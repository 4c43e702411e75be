"""Training curves, read back from TensorBoard's event files."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparse_ae.runs.directory import Run

_KEEP_SCALARS_ONLY = {"scalars": 0, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1, "tensors": 1}
"""0 is all of them."""


class Curve(NamedTuple):
    """A scalar over training, ``(T,)`` each."""

    step: np.ndarray
    value: np.ndarray


def read_curves(run: Run, tags: Sequence[str]) -> dict[str, Curve]:
    """Those of ``tags`` that the run has logged. It may have written several files, if it was resumed, and be writing
    one now.
    """
    events = EventAccumulator(str(run.path), size_guidance=_KEEP_SCALARS_ONLY)
    events.Reload()
    known = events.Tags()["scalars"]
    return {tag: _curve((e.step, e.value) for e in events.Scalars(tag)) for tag in tags if tag in known}


def _curve(points: Iterable[tuple[int, float]]) -> Curve:
    """A step that is logged twice, by a run that was killed and has not yet gone on, counts as logged later."""
    kept: list[tuple[int, float]] = []
    for step, value in points:
        while kept and kept[-1][0] >= step:
            kept.pop()
        kept.append((step, value))
    return Curve(np.array([step for step, _ in kept]), np.array([value for _, value in kept], dtype=float))
