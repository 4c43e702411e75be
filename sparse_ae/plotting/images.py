"""Grids of images, each grid one picture: an axes per image would take longer to draw than an epoch to train."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from sparse_ae.plotting.style import GREY, Array

_RED_AND_BLUE = "red is positive, blue negative"
_PAIRS_PER_ROW = 8
_IMAGE_INCHES = 0.95
"""The width of an image."""
_SIDE_INCHES = 0.3
_MARGIN = 0.12
_CHARACTER_INCHES = 0.085
"""Of a title."""


def feature_grid(images: Array, labels: Sequence[str], *, title: str, signed: bool = False) -> Figure:
    """A square grid of images ``(n, H, W)``, each on its own scale and with a label below; one of NaN is crossed out.

    A diverging map, symmetric around 0, if ``signed`` or where an image has negative values; else grey.
    """
    signed = signed or bool((images < 0).any())
    low = 0 if signed else images.min(axis=(1, 2), keepdims=True)
    extreme = np.abs(images - low).max(axis=(1, 2), keepdims=True)
    scaled = (images - low) / np.maximum(extreme, 1e-12)
    mosaic = _mosaic(
        scaled,
        labels,
        columns=math.ceil(math.sqrt(len(images))),
        title=f"{title}\n{_RED_AND_BLUE}" if signed else title,
    )
    mosaic.sheet.set(cmap="RdBu_r" if signed else "gray", clim=(-1 if signed else 0, 1))
    _cross_out(mosaic, images, mosaic.corners)
    return mosaic.figure


def top_image_rows(features: Array, images: Array, labels: Sequence[Sequence[str]], *, title: str) -> Figure:
    """A row for each of n features ``(n, H, W)``: itself on a diverging map of its own, symmetric around 0, crossed out
    if NaN; then its k ``images (n, k, H, W)`` in [0, 1], left blank if NaN. ``labels`` are k + 1 for each row.
    """
    scaled = features / np.maximum(np.abs(features).max(axis=(1, 2), keepdims=True), 1e-12)
    pictures = np.concatenate([scaled[:, None], images], axis=1)
    columns, height, width = pictures.shape[1:]
    below = [label for row in labels for label in row]
    mosaic = _mosaic(pictures.reshape(-1, height, width), below, columns=columns, title=f"{title}\n{_RED_AND_BLUE}")
    values, extent = np.asarray(mosaic.sheet.get_array()), mosaic.sheet.get_extent()
    photographs = mosaic.axes.imshow(values, interpolation="nearest", aspect="auto", extent=extent)
    is_feature = np.arange(values.shape[1]) < width
    mosaic.sheet.set(data=np.where(is_feature, values, np.nan), cmap="RdBu_r", clim=(-1, 1))
    photographs.set(data=np.where(is_feature, np.nan, values), cmap="gray", clim=(0, 1))
    _cross_out(mosaic, features, mosaic.corners[::columns])
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
    for top in dict.fromkeys(top for top, _ in mosaic.corners):
        for name, middle in zip(names, (top + height / 2, top + pairs.shape[1] - height / 2), strict=True):
            mosaic.axes.text(-width / 7, middle, name, rotation=90, ha="right", va="center", fontsize=9)
    return mosaic.figure


class _Mosaic(NamedTuple):
    figure: Figure
    axes: Axes
    """In units of an image's pixels, y downwards."""
    sheet: AxesImage
    """All images in one."""
    corners: list[tuple[int, int]]
    """The top and the left of each image."""


def _mosaic(images: Array, labels: Sequence[str], *, columns: int, title: str, left: float = 0.0) -> _Mosaic:
    """Images ``(n, H, W)`` in rows of ``columns``, NaN left blank, a label below each; ``left`` inches stay free."""
    count, height, width = images.shape
    row, column = height + math.ceil(width / 4), width + math.ceil(width / 10)
    corners = [(i // columns * row, i % columns * column) for i in range(count)]
    sheet = np.full((corners[-1][0] + row, (columns - 1) * column + width), np.nan)

    high, wide = (size * _IMAGE_INCHES / width for size in sheet.shape)
    lines = title.split("\n")
    head, for_title = 0.25 + 0.2 * len(lines), _CHARACTER_INCHES * max(map(len, lines))
    figure = Figure(figsize=(max(left + wide, for_title) + 2 * _MARGIN, high + head))
    start_inches = left + (figure.get_figwidth() - left - wide) / 2
    width_inches, height_inches = figure.get_size_inches()
    axes = figure.add_axes((start_inches / width_inches, 0, wide / width_inches, high / height_inches))
    axes.set_axis_off()
    for image, label, (top, start) in zip(images, labels, corners, strict=True):
        sheet[top : top + height, start : start + width] = image
        axes.text(start + width / 2, top + height + width / 30, label, ha="center", va="top", fontsize=7.5, color=GREY)
    drawn = axes.imshow(sheet, interpolation="nearest", aspect="auto", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    figure.suptitle(title, y=1 - _MARGIN / (high + head), va="top")
    return _Mosaic(figure, axes, drawn, corners)


def _cross_out(mosaic: _Mosaic, images: Array, corners: Sequence[tuple[int, int]]) -> None:
    """A cross in place of each of the images ``(n, H, W)`` that is NaN."""
    height, width = images.shape[1:]
    for image, (top, start) in zip(images, corners, strict=True):
        if np.isnan(image).all():
            for rise in ((top, top + height), (top + height, top)):
                mosaic.axes.plot((start, start + width), rise, color=GREY, linewidth=0.8)
