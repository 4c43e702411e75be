"""Images in rows and columns as one figure.

All images of a figure share one axes, in pixels: an axes per image would take longer to draw than an epoch to train.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from sparse_ae.plotting.pictures import View, caption, own_scale
from sparse_ae.plotting.style import GREY, Array

_IMAGE_INCHES, _LEAST_INCHES, _MOST_INCHES = 0.9, 0.45, 11.0
"""Side of the square whose area an image has, its least width, and the largest width of all images side by side."""
_BAR, _BAR_INCHES = 0.75, (2.5, 0.11)
"""Inches for the colour bar at the bottom, and its width and height."""
_MARGIN, _BETWEEN = 0.15, 0.4
"""Inches around the figure and between blocks."""
_BELOW, _ABOVE, _NAME, _LINE = 0.2, 0.22, 0.28, 0.2
"""Inches for a label below an image, a name above a column, the name of a block, a line of the title."""
_TITLE_CHARACTER, _NAME_CHARACTER = 0.095, 0.075
"""Inches of a character of the title and of the name of a row, both on the wide side."""


PIXELS = View((1, 1, 1))
"""View of grey images with pixels from 0 to 1."""


class Block(NamedTuple):
    """A table of images with optional names, one of several side by side."""

    images: Array
    """Images ``(R, C, H, W)``, or ``(R, C, H, W, 3)`` in colour, left blank where NaN."""
    atoms: int = 0
    """Number of leading columns that hold atoms. An atom has its own scale; one of NaN with a label is crossed out."""
    rows: Sequence[str] = ()
    """Names left of the rows."""
    columns: Sequence[str] = ()
    """Names above the columns."""
    below: Sequence[str] = ()
    """Labels below the images, row by row; may end early."""
    name: str = ""
    """Name above the block."""
    empty: str = "nothing to show"
    """Text in place of the images, where there are none."""

    def label(self, row: int, column: int) -> str:
        """Label below one image; empty if it has none."""
        place = row * self.images.shape[1] + column
        return self.below[place] if place < len(self.below) else ""


class _Places(NamedTuple):
    """Positions of the images of a block in pixels."""

    tops: list[int]
    """Tops of the rows, and the bottom of the last."""
    starts: list[int]
    """Left ends of the columns."""
    width: int
    """Width of the whole block."""


def mosaic(blocks: Sequence[Block], *, title: str, view: View = PIXELS, signed: bool = False) -> Figure:
    """Figure of blocks side by side.

    Samples are drawn in the range of their ``view``. Atoms are drawn in grey, or on a diverging map symmetric around 0
    if ``signed`` or if one has a negative value; in colour, 0 is then a medium grey.
    """
    height, width, *colour = blocks[0].images.shape[2:]
    signed = signed or any(bool((block.images[:, : block.atoms] < 0).any()) for block in blocks)
    columns = sum(_across(block) for block in blocks)
    side = max(_IMAGE_INCHES / math.sqrt(height * width), _LEAST_INCHES / width)
    inches = min(side, _MOST_INCHES / (columns * (1 + 1 / 14)) / width)  # of a pixel
    lefts = [_left_inches(block, first=block is blocks[0]) / inches for block in blocks]
    places = [_places(block, math.ceil(_BELOW / inches)) for block in blocks]

    starts: list[int] = []
    end = 0
    for left, place in zip(lefts, places, strict=True):
        starts.append(end + (0 if not starts else math.ceil(left)))
        end = starts[-1] + place.width
    bottom = max(place.tops[-1] for place in places)
    shown = [block for block in blocks if block.images.size]
    has_samples = any(block.atoms < block.images.shape[1] for block in shown)
    foot = _BAR if has_samples and view.has_bar else 0
    title = caption(title, view, signed=signed)
    axes = _canvas((bottom, end), inches, lefts[0] * inches, title, _head_inches(blocks), foot)
    atoms, samples = np.full((2, bottom, end, *colour), np.nan)
    for block, start, place in zip(blocks, starts, places, strict=True):
        for row, column in np.ndindex(block.images.shape[:2]):
            top, left = place.tops[row], start + place.starts[column]
            image = block.images[row, column]
            is_atom = column < block.atoms
            sheet = atoms if is_atom else samples
            sheet[top : top + height, left : left + width] = own_scale(image, signed=signed) if is_atom else image
            if view.is_framed and not np.isnan(image).all():
                frame = Rectangle((left, top), width, height, fill=False, edgecolor=GREY, linewidth=0.5, clip_on=False)
                axes.add_patch(frame)
            if is_atom and block.label(row, column) and np.isnan(image).all():
                for rise in ((top, top + height), (top + height, top)):
                    axes.plot((left, left + width), rise, color=GREY, linewidth=0.8)
        _write_names(axes, block, place, start, (height, width), inches)
    if any(block.atoms for block in shown):
        _show(axes, atoms, ("RdBu_r", -1, 1) if signed else (view.own_colours, 0, 1))
    if has_samples:
        drawn = _show(axes, view.scaled(samples) if colour else samples, (view.colours, view.low, view.high))
        if foot:
            _add_bar(axes, drawn, f"value in {'an' if view.is_image else 'a'} {view.noun}")
    return axes.figure  # type: ignore[return-value]  # of a figure that is no subfigure


def feature_grid(
    images: Array, labels: Sequence[str], *, title: str, view: View = PIXELS, signed: bool = False
) -> Figure:
    """Square grid of atoms ``(n, H, W)`` or ``(n, H, W, 3)`` with a label below each; see ``mosaic``."""
    count, *shape = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    table = np.full((rows * columns, *shape), np.nan)
    table[:count] = images
    block = Block(table.reshape(rows, columns, *shape), atoms=columns, below=labels)
    return mosaic([block], title=title, view=view, signed=signed)


def _across(block: Block) -> int:
    """Number of images side by side; the text of an empty block needs the width of two."""
    columns: int = block.images.shape[1]
    return columns if block.images.size else max(2, columns)


def _show(axes: Axes, sheet: Array, scale: tuple[str, float, float]) -> AxesImage:
    """Draw a sheet, by colour map and range, or as it is if it has colours, which are from 0 to 1; no NaN."""
    bottom, end = sheet.shape[:2]
    colours, low, high = scale
    known = np.nan_to_num(np.append(sheet, ~np.isnan(sheet[..., :1]), axis=2)) if sheet.ndim == 3 else sheet
    return axes.imshow(
        known, cmap=colours, clim=(low, high), interpolation="nearest", aspect="auto", extent=(0, end, bottom, 0)
    )


def _add_bar(axes: Axes, drawn: AxesImage, label: str) -> None:
    """Add the colour bar of the samples below all pictures."""
    figure: Figure = axes.figure  # type: ignore[assignment]
    width, height = figure.get_size_inches()
    wide, high = _BAR_INCHES
    wide = min(wide, 0.8 * width)
    place = ((width - wide) / 2 / width, (_BAR - 1.3 * _MARGIN - high) / height, wide / width, high / height)
    bar = figure.colorbar(drawn, cax=figure.add_axes(place), orientation="horizontal", extend="both")
    bar.ax.tick_params(labelsize=8, labelcolor=GREY, color=GREY)
    bar.ax.locator_params(nbins=5)
    bar.set_label(label, fontsize=8, color=GREY)


def _places(block: Block, label_gap: int) -> _Places:
    """Rows stand close together unless there are labels between them; photographs stand apart from atoms."""
    rows, columns, height, width = block.images.shape[:4]
    gap, apart = math.ceil(width / 14), width // 3
    tops = [0]
    for row in range(rows):
        labelled = any(block.label(row, column) for column in range(columns))
        tops.append(tops[-1] + height + (label_gap if labelled else gap))
    across = _across(block)
    split = block.atoms if 0 < block.atoms < columns else across
    starts = [column * (width + gap) + (apart if column >= split else 0) for column in range(across)]
    return _Places(tops if rows else [0, height + gap], starts, starts[-1] + width)


def _left_inches(block: Block, *, first: bool) -> float:
    """Space left of a block: for the names of its rows, or to keep it apart from the block before."""
    longest = max((len(line) for name in block.rows for line in name.split("\n")), default=0)
    return _NAME_CHARACTER * longest + _MARGIN if longest or first else _BETWEEN


def _head_inches(blocks: Sequence[Block]) -> float:
    """Space for the names above the images."""
    columns = _ABOVE if any(block.columns for block in blocks) else 0.0
    return columns + (_NAME if any(block.name for block in blocks) else 0.0)


def _canvas(shape: tuple[int, int], inches: float, left: float, title: str, names: float, foot: float) -> Axes:
    """Axes of a new figure in pixels, y downwards, with ``names`` inches above, the title on top and ``foot`` below."""
    high, wide = (size * inches for size in shape)
    lines = title.split("\n")
    head = 2 * _MARGIN + _LINE * len(lines) + names
    figure = Figure(figsize=(max(left + wide, _TITLE_CHARACTER * max(map(len, lines))) + _MARGIN, high + head + foot))
    width, height = figure.get_size_inches()
    start = left + (width - _MARGIN - left - wide) / 2
    axes = figure.add_axes((start / width, foot / height, wide / width, high / height))
    axes.set_axis_off()
    figure.suptitle(title, y=1 - _MARGIN / height, va="top")
    return axes


def _write_names(axes: Axes, block: Block, place: _Places, start: int, shape: tuple[int, int], inches: float) -> None:
    """Names and labels of a block whose left end is at ``start``; ``shape`` of an image."""
    height, width = shape
    gap = 0.05 / inches
    if block.name:
        above = gap + (_ABOVE / inches if block.columns else 0)
        axes.text(start + place.width / 2, -above, block.name, ha="center", va="bottom", fontsize=11)
    if not block.images.size:
        middle = (start + place.width / 2, height / 2)
        axes.text(*middle, block.empty, ha="center", va="center", color=GREY, fontsize=9)
        return
    for name, top in zip(block.rows, place.tops, strict=False):
        axes.text(start - 1.5 * gap, top + height / 2, name, ha="right", va="center", fontsize=9)
    for name, left in zip(block.columns, place.starts, strict=True) if block.columns else ():
        axes.text(start + left + width / 2, -gap, name, ha="center", va="bottom", fontsize=9, color=GREY)
    for row, column in np.ndindex(block.images.shape[:2]):
        if label := block.label(row, column):
            at = (start + place.starts[column] + width / 2, place.tops[row] + height + 0.6 * gap)
            axes.text(*at, label, ha="center", va="top", fontsize=8, color=GREY)
