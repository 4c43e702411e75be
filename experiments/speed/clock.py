"""Time of calls and tables of times."""

from collections.abc import Callable, Iterable
from statistics import median

import torch
from torch.utils.benchmark import Timer

ROUNDS = 3


def seconds(*calls: Callable[[], object]) -> list[float]:
    """Time each of ``calls``: the median of rounds in which they take turns. The device has finished when one ends."""
    rounds = [[_seconds(call) for call in calls] for _ in range(ROUNDS)]
    return [median(times) for times in zip(*rounds, strict=True)]


def _seconds(call: Callable[[], object]) -> float:
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=0.1).median)


def synchronize(device: str) -> None:
    """Wait until the device has finished."""
    if device != "cpu":
        torch.accelerator.synchronize()


def table(title: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table in Markdown, each row as soon as it is known."""
    names = list(header)
    print(f"\n**{title}**\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
