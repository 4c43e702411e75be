"""Images in rows and columns that have names."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sparse_ae.plotting.style import GREY, Array

_IMAGE_INCHES = 0.85
_CHARACTER_INCHES = 0.085
_MARGIN = 0.15


def image_table(images: Array, rows: Sequence[str], columns: Sequence[str], *, title: str) -> Figure:
    """Images ``(R, C, H, W)`` in [0, 1], with a name beside each row and above each column; NaN is left blank."""
    count, across, height, width = images.shape
    gap = math.ceil(width / 14)
    sheet = np.full((count * (height + gap), across * (width + gap)), np.nan)
    for (row, column), _ in np.ndenumerate(images[:, :, 0, 0]):
        top, start = row * (height + gap), column * (width + gap)
        sheet[top : top + height, start : start + width] = images[row, column]

    high, wide = (size * _IMAGE_INCHES / width for size in sheet.shape)
    left = _CHARACTER_INCHES * max(map(len, rows)) + _MARGIN
    lines = title.split("\n")
    head = 0.5 + 0.2 * len(lines)
    figure_width = max(left + wide, _CHARACTER_INCHES * max(map(len, lines))) + _MARGIN
    figure = Figure(figsize=(figure_width, high + head))
    axes = figure.add_axes((left / figure_width, 0, wide / figure_width, high / (high + head)))
    axes.set_axis_off()
    axes.imshow(
        sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto", extent=(0, *sheet.shape[::-1], 0)
    )
    for row, name in enumerate(rows):
        axes.text(-gap, row * (height + gap) + height / 2, name, ha="right", va="center", fontsize=9)
    for column, name in enumerate(columns):
        axes.text(column * (width + gap) + width / 2, -gap, name, ha="center", va="bottom", fontsize=9, color=GREY)
    figure.suptitle(title, y=1 - _MARGIN / (high + head), va="top")
    return figure
