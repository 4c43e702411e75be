"""Panels of single numbers of many runs, side by side."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from sparse_ae.plotting.style import Array, finish, looks

_COLUMNS = 3
_LABEL = 36
"""Characters in a line of the label below a panel."""


def dot_panels(values: Mapping[str, Array], method: Sequence[str], group: Sequence[str], *, title: str) -> Figure:
    """A panel for each of ``values (R,)``, by label, with a row for each different ``group`` of runs.

    A row has a dot for each run and a line at their mean; NaN is not drawn. ``method`` sets colour and marker.
    """
    groups = list(dict.fromkeys(zip(method, group, strict=True)))
    row_of = np.array([groups.index(pair) for pair in zip(method, group, strict=True)])
    labels = [", ".join(part for part in pair if part) for pair in groups]
    columns = min(_COLUMNS, len(values))
    rows = math.ceil(len(values) / columns)
    names = [textwrap.fill(name, _LABEL) for name in values]
    lines = 1 + max(name.count("\n") for name in names)
    height = rows * (0.28 * len(groups) + 0.58 + 0.17 * lines) + 0.6
    width = 0.07 * max(map(len, labels)) + 3 * columns
    figure = Figure(figsize=(max(width, 0.085 * len(title)), height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    styles = looks(method)
    for axes, name, value in zip(panels.flat, names, values.values(), strict=False):
        for row, (owner, _) in enumerate(groups):
            own = value[(row_of == row) & ~np.isnan(value)]
            look = styles[owner]
            if len(own) > 1:
                axes.plot([own.mean()] * 2, [row - 0.3, row + 0.3], "-", color=look.colour, linewidth=2)
            axes.plot(own, np.full(len(own), row), look.marker, color=look.colour, alpha=0.7, markersize=5)
        axes.set_xlabel(name)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.set(yticks=range(len(groups)), yticklabels=labels, ylim=(len(groups) - 0.5, -0.5))
    for axes in panels.flat[len(values) :]:
        axes.remove()
    finish(figure, title, columns=6)
    return figure
