"""How many images linear classifiers get wrong."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, StrMethodFormatter

from sparse_ae.plotting.style import Array, Look, finish, looks

_LEAST = 1e-4
"""What is drawn of no error at all: a logarithmic axis has no 0."""


class ProbeLine(NamedTuple):
    """One representation's errors with K numbers of labels."""

    labels: Array
    """Labels per class ``(K,)``."""
    error: Array
    """Share of images classified wrongly ``(K,)``."""
    low: Array
    high: Array


def probe_panels(panels: Mapping[str, Mapping[str, ProbeLine]], *, first: str, title: str) -> Figure:
    """A panel for each classifier, a line with intervals for each representation; ``first`` is drawn thickest."""
    figure = Figure(figsize=(5.5 * max(len(panels), 1.4), 4.6), layout="constrained")
    styles = looks(list(next(iter(panels.values()))))
    for axes, (classifier, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for place, (name, line) in enumerate(lines.items()):
            _draw(axes, line, name, styles[name], shift=1 + 0.04 * place, thick=name == first)
        axes.set(xscale="log", yscale="log", xlabel="labels per class", ylabel="test error", title=classifier)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    finish(figure, title, columns=3)
    return figure


def _draw(axes: Axes, line: ProbeLine, name: str, look: Look, *, shift: float, thick: bool) -> None:
    """``shift`` keeps intervals at the same number of labels apart."""
    low, error, high = (np.maximum(values, _LEAST) for values in (line.low, line.error, line.high))
    axes.errorbar(
        line.labels * shift,
        error,
        yerr=(error - low, high - error),
        label=name,
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        linewidth=2.4 if thick else 1.3,
        markersize=5,
        capsize=2,
    )
