"""Grids of images, each grid one picture: an axes per image would take longer to draw than an epoch to train."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from sparse_ae.plotting.style import GREY, Array

_PAIRS_PER_ROW = 8
_IMAGE_INCHES = 0.95
"""The width of an image."""
_SIDE_INCHES = 0.3
_MARGIN = 0.12
_CHARACTER_INCHES = 0.085
"""Of a title."""


def feature_grid(images: Array, labels: Sequence[str], *, title: str) -> Figure:
    """A square grid of images ``(n, H, W)``, each on its own scale and with a label below.

    Grey where no image has negative values; else a diverging map, symmetric around 0.
    """
    signed = bool((images < 0).any())
    low = 0 if signed else images.min(axis=(1, 2), keepdims=True)
    extreme = np.abs(images - low).max(axis=(1, 2), keepdims=True)
    scaled = (images - low) / np.maximum(extreme, 1e-12)
    mosaic = _mosaic(
        scaled,
        labels,
        columns=math.ceil(math.sqrt(len(images))),
        title=f"{title}\nred is positive, blue negative" if signed else title,
    )
    mosaic.sheet.set(cmap="RdBu_r" if signed else "gray", clim=(-1 if signed else 0, 1))
    return mosaic.figure


def image_pairs(above: Array, below: Array, labels: Sequence[str], *, names: tuple[str, str], title: str) -> Figure:
    """Images ``(n, H, W)`` in [0, 1] above others of the same shape, a label under each pair; ``names`` says beside
    each row what ``above`` and ``below`` are.
    """
    count, height, width = above.shape
    gap = np.full((count, math.ceil(height / 14), width), np.nan)
    pairs = np.concatenate([above, gap, below], axis=1)
    mosaic = _mosaic(pairs, labels, columns=min(_PAIRS_PER_ROW, count), title=title, left=_SIDE_INCHES)
    mosaic.sheet.set(cmap="gray", clim=(0, 1))
    for top in mosaic.tops:
        for name, middle in zip(names, (top + height / 2, top + pairs.shape[1] - height / 2), strict=True):
            mosaic.axes.text(-width / 7, middle, name, rotation=90, ha="right", va="center", fontsize=9)
    return mosaic.figure


class _Mosaic(NamedTuple):
    figure: Figure
    axes: Axes
    """In units of an image's pixels, y downwards."""
    sheet: AxesImage
    """All images in one."""
    tops: list[int]
    """Where each row of images begins."""


def _mosaic(images: Array, labels: Sequence[str], *, columns: int, title: str, left: float = 0.0) -> _Mosaic:
    """Images ``(n, H, W)`` in rows of ``columns``, NaN left blank, a label below each; ``left`` inches stay free."""
    count, height, width = images.shape
    row, column = height + math.ceil(width / 4), width + math.ceil(width / 10)
    tops = [i * row for i in range(math.ceil(count / columns))]
    sheet = np.full((tops[-1] + row, (columns - 1) * column + width), np.nan)

    high, wide = (size * _IMAGE_INCHES / width for size in sheet.shape)
    lines = title.split("\n")
    head, for_title = 0.25 + 0.2 * len(lines), _CHARACTER_INCHES * max(map(len, lines))
    figure = Figure(figsize=(max(left + wide, for_title) + 2 * _MARGIN, high + head))
    start_inches = left + (figure.get_figwidth() - left - wide) / 2
    width_inches, height_inches = figure.get_size_inches()
    axes = figure.add_axes((start_inches / width_inches, 0, wide / width_inches, high / height_inches))
    axes.set_axis_off()
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        top, start = tops[i // columns], i % columns * column
        sheet[top : top + height, start : start + width] = image
        axes.text(start + width / 2, top + height + width / 30, label, ha="center", va="top", fontsize=7.5, color=GREY)
    drawn = axes.imshow(sheet, interpolation="nearest", aspect="auto", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    figure.suptitle(title, y=1 - _MARGIN / (high + head), va="top")
    return _Mosaic(figure, axes, drawn, tops)
