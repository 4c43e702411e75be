"""Atoms of one run beside those of another."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from sparse_ae.plotting.selectivity import coloured
from sparse_ae.plotting.style import GREY, Array, finish, looks

_IMAGE_INCHES = 0.62
"""The width of an image."""
_HEAD_INCHES, _LINE_INCHES = 0.65, 0.2


class AtomPairs(NamedTuple):
    """n atoms above n others."""

    name: str
    above: Array
    """``(n, H, W)``, each on its own scale, or a diverging map where some are signed."""
    below: Array
    labels: Sequence[str]
    """One for each pair."""


def matched_cosine_curves(
    cosines: Mapping[str, Array], nulls: Mapping[str, Sequence[Array]], *, high: float, title: str
) -> Figure:
    """|Cosines| ``(m,)`` of matched atoms, largest first, by the name of the other run; up to four ``nulls``, several
    under one name, stand behind them.
    """
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    for (name, each), line in zip(nulls.items(), ("--", "-.", ":", "-"), strict=False):
        for values in each:
            axes.plot(*_sorted(values), line, color=GREY, linewidth=1.2, label=f"null: {name}")
    for name, look in looks(list(cosines)).items():
        axes.plot(*_sorted(cosines[name]), "-", color=look.colour, linewidth=1.8, label=name)
    axes.axhline(high, color="black", linewidth=0.8, label=f"high: above {high:g}")
    if not any(map(len, cosines.values())):
        axes.text(0.5, 0.5, "nothing to match", ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set(xlabel="share of pairs, best first", ylabel="|cosine| of a pair", xlim=(0, 1), ylim=(0, 1.02))
    finish(figure, title, columns=3)
    return figure


def _sorted(values: Array) -> tuple[Array, Array]:
    """Shares of the values and how large they are, largest first; of very many only a few hundred."""
    largest_first = np.sort(values)[::-1]
    shares = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    every = -(-len(values) // 500) or 1
    return shares[::every], largest_first[::every]


def atom_pair_strips(groups: Sequence[AtomPairs], *, title: str) -> Figure:
    """Groups of pairs side by side, a label under each pair."""
    count, (height, width) = max(1, *(len(group.labels) for group in groups)), groups[0].above.shape[1:]
    signed = any(bool((atoms < 0).any()) for group in groups for atoms in (group.above, group.below))
    title = f"{title}\nred is positive, blue negative" if signed else title
    gap, between = -(-width // 14), width
    high, wide = 2 * height + gap + width // 2, len(groups) * (count * (width + gap) + between) - between
    sheet = np.ones((high, wide, 3))
    inches = (wide * _IMAGE_INCHES / width, high * _IMAGE_INCHES / width)
    head = _HEAD_INCHES + _LINE_INCHES * title.count("\n")
    total = (inches[0] + 0.4, inches[1] + head)
    figure = Figure(figsize=total)
    axes = figure.add_axes((0.2 / total[0], 0, inches[0] / total[0], inches[1] / total[1]))
    axes.set_axis_off()
    for i, group in enumerate(groups):
        left = i * (count * (width + gap) + between)
        axes.text(left + count * (width + gap) / 2, -gap, group.name, ha="center", va="bottom", fontsize=11)
        if not group.labels:
            axes.text(left, height, "nothing to match", va="center", color=GREY)
        for j, label in enumerate(group.labels):
            start = left + j * (width + gap)
            for top, atoms in ((0, group.above), (height + gap, group.below)):
                sheet[top : top + height, start : start + width] = coloured(atoms[j : j + 1], signed=signed)[0]
            axes.text(start + width / 2, 2 * height + 2 * gap, label, ha="center", va="top", fontsize=9, color=GREY)
    axes.imshow(sheet, interpolation="nearest", aspect="auto", extent=(0, wide, high, 0))
    figure.suptitle(title, y=1 - 0.1 / total[1], va="top")
    return figure
