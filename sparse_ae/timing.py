"""How long something takes."""

import statistics
import time
from collections.abc import Callable

import torch


def median_seconds(work: Callable[[], object], repeats: int, enough: float = float("inf")) -> float:
    """Median wall time of up to ``repeats`` calls of ``work``, after one that is not counted; in seconds.

    No further call is made once all of them together have taken ``enough`` seconds; if the first one alone did, it
    is the one that counts.
    """
    times: list[float] = []
    while len(times) <= repeats and sum(times) < enough:
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:] or times)
