"""Errors of several coders on the same samples."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from sparse_ae.plotting.style import LINES, Array, finish, log_positions, looks


def error_curves(errors: Mapping[str, Array], *, ylabel: str, title: str) -> Figure:
    """The errors ``(n,) >= 0`` of each coder's samples, largest first, on a logarithmic scale."""
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    sizes = {name: np.sort(values)[::-1] for name, values in errors.items()}
    positions = log_positions(axes, "y", np.concatenate(list(sizes.values())))
    places = np.split(positions, np.cumsum([len(values) for values in sizes.values()])[:-1])
    styles = looks(list(sizes))
    for name, place, line in zip(sizes, places, LINES, strict=False):
        axes.plot((np.arange(len(place)) + 0.5) / len(place), place, line, color=styles[name].colour, label=name)
    axes.set(xlabel="share of samples, worst first", ylabel=ylabel, xlim=(0, 1))
    finish(figure, title, columns=1)
    return figure
