"""Grids of images."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sparse_ae.plotting.style import GREY, Array

_PAIRS_PER_ROW = 8


def feature_grid(images: Array, labels: Sequence[str], *, title: str) -> Figure:
    """A square grid of images ``(n, H, W)``, each on its own scale and with a label above.

    Grey where no image has negative values; else a diverging map, symmetric around 0.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.05 * columns, 1.2 * rows + 0.6), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    signed = bool((images < 0).any())
    for axes in grid:
        axes.set_axis_off()
    for axes, image, label in zip(grid, images, labels, strict=False):
        extreme = max(float(np.abs(image).max()), 1e-12)
        low, high = (-extreme, extreme) if signed else (float(image.min()), float(image.max()))
        axes.imshow(image, cmap="RdBu_r" if signed else "gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(label, fontsize=7, pad=2, color=GREY)
    figure.suptitle(f"{title}\nred is positive, blue negative" if signed else title)
    return figure


def image_pairs(above: Array, below: Array, labels: Sequence[str], *, names: tuple[str, str], title: str) -> Figure:
    """Images ``(n, H, W)`` in [0, 1] above others of the same shape, a label under each pair; ``names`` says beside
    each row what ``above`` and ``below`` are.
    """
    columns = min(_PAIRS_PER_ROW, len(above))
    blocks = math.ceil(len(above) / columns)
    figure = Figure(figsize=(1.05 * columns + 0.9, 2.35 * blocks + 0.5), layout="constrained")
    grid = figure.subplots(2 * blocks, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[], frame_on=False)
    for i, label in enumerate(labels):
        block, column = divmod(i, columns)
        for row, image in ((2 * block, above[i]), (2 * block + 1, below[i])):
            grid[row, column].imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        grid[2 * block + 1, column].set_xlabel(label, fontsize=8, labelpad=3, color=GREY)
    for row, axes in enumerate(grid[:, 0]):
        axes.set_ylabel(names[row % 2], fontsize=9)
    figure.suptitle(title)
    return figure
