"""Search over its trials: what each reached, and the best so far."""

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from sparse_ae.plotting.style import BLUE, GREY, Array, finish, log_positions


def search_panel(trial: Array, value: Array, best: Array, *, pruned: Array, ylabel: str, title: str) -> Figure:
    """The values ``(T,)`` of trials with the numbers ``trial (T,)``, and a line through the best so far, ``best (T,)``.

    ``pruned (2, P)`` has the numbers of pruned trials and the value that each had then.

    The axis of values is logarithmic unless one of them is negative.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    shown = np.concatenate([value, best, pruned[1]])
    if (shown >= 0).all():
        shown = log_positions(axes, "y", shown)
    value, best, last = np.split(shown, [len(value), 2 * len(value)])
    axes.plot(trial, value, "o", color=GREY, alpha=0.6, markersize=5, label="trial")
    if pruned.size:
        axes.plot(pruned[0], last, "x", color=GREY, markersize=5, label="pruned")
    axes.step(trial, best, "-", where="post", color=BLUE, label="best so far")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=ylabel)
    finish(figure, title, columns=3)
    return figure
