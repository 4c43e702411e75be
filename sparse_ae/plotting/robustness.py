"""What noise in the input does to codes and reconstructions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_ae.plotting.style import GREY, Array, Look, finish, looks


class NoiseRow(NamedTuple):
    """One kind of noise, of K strengths: by coder what becomes of it, ``(K,)``; NaN is not drawn."""

    xlabel: str
    strength: Array
    """``(K,)``."""
    code_change: Mapping[str, Array]
    support_change: Mapping[str, Array]
    clean_mse: Mapping[str, Array]
    between_images: Mapping[str, float | None]
    """By coder, the change of active units between different images: to be marked at the edge."""


def robustness_panels(rows: Sequence[NoiseRow], *, reference: str, title: str) -> Figure:
    """A row of panels for each kind of noise: change of codes, change of supports, error to the clean image. The coder
    ``reference`` is drawn in grey.
    """
    figure = Figure(figsize=(11, 0.9 + 3 * len(rows)), layout="constrained")
    styles = looks([name for name in rows[0].code_change if name != reference])
    styles[reference] = Look(GREY, "", ":")
    for panels, row in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        for axes, lines, ylabel in zip(
            panels,
            (row.code_change, row.support_change, row.clean_mse),
            ("relative change of the code", "units changed (1 - Jaccard)", "MSE to the clean image"),
            strict=True,
        ):
            _draw(axes, row.strength, lines, styles)
            axes.set(xlabel=row.xlabel, ylabel=ylabel)
        _mark(panels[1], row.between_images, styles)
    finish(figure, title, columns=2)
    return figure


def _draw(axes: Axes, strength: Array, lines: Mapping[str, Array], styles: Mapping[str, Look]) -> None:
    for name, values in lines.items():
        look = styles[name]
        axes.plot(strength, values, look.line, marker=look.marker, markersize=4.5, color=look.colour, label=name)
    axes.set_ylim(bottom=0)


def _mark(axes: Axes, levels: Mapping[str, float | None], styles: Mapping[str, Look]) -> None:
    """A dash at the right edge for each level."""
    for name, level in levels.items():
        if level is not None:
            ends = ([0.98, 1.03], [level, level])
            axes.plot(
                *ends, color=styles[name].colour, linewidth=2.5, transform=axes.get_yaxis_transform(), clip_on=False
            )
    axes.set_ylim(0, 1.02)
    axes.set_title("dashes: between different images", fontsize=9, loc="right")
