"""Which classes units stand for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure

from sparse_ae.plotting.style import BLUE, GREY, Array, finish

_IMAGE_INCHES = 0.52
"""The width of an image."""
_LABEL_INCHES = 0.85
_HEAD_INCHES, _LINE_INCHES = 0.6, 0.2
_BINS = 50


class UnitStrips(NamedTuple):
    """A row of pictures for each of n units."""

    name: str
    atoms: Array
    """``(n, H, W)``, each on its own scale, or a diverging map where they are signed."""
    images: Array
    """``(n, m, H, W)`` in [0, 1]; NaN is left blank."""
    labels: Sequence[str]
    """One for each unit."""


def class_heatmap(means: Array, classes: Sequence[int], *, title: str) -> Figure:
    """Mean activities ``(N, C)`` as a map, units to the right in the order given, classes downwards; each unit relative
    to the class where it is largest, and grey where it has none.
    """
    largest = means.max(axis=1, keepdims=True)
    relative = np.divide(means, largest, out=np.full_like(means, np.nan), where=largest > 0)
    figure = Figure(figsize=(11, 1.6 + 0.28 * len(classes)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#bbbbbb")
    drawn = axes.imshow(
        relative.T,
        cmap="viridis",
        clim=(0, 1),
        aspect="auto",
        interpolation="nearest",
        extent=(0, len(means), len(classes) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(classes)), [str(value) for value in classes])
    dead = " (grey: dead)" if np.isnan(relative).any() else ""
    axes.set(xlabel=f"units, by preferred class and selectivity{dead}", ylabel="class")
    figure.colorbar(drawn, ax=axes, label="mean activity,\nshare of the unit's largest", pad=0.01)
    figure.suptitle(title)
    return figure


def unit_strips(groups: Sequence[UnitStrips], *, title: str) -> Figure:
    """Groups of units side by side, a row for each unit: its label, its atom, and after a gap its images."""
    _, shown, height, width = groups[0].images.shape
    rows = max(1, *(len(group.labels) for group in groups))
    signed = any(bool((group.atoms < 0).any()) for group in groups)
    title = f"{title}\nred is positive, blue negative" if signed else title
    high, wide = rows * (height + _gap(height)), (shown + 1) * (width + _gap(width)) + width // 3
    panel_inches = (wide * _IMAGE_INCHES / width, high * _IMAGE_INCHES / width)
    head = _HEAD_INCHES + _LINE_INCHES * title.count("\n")
    total = (len(groups) * (_LABEL_INCHES + panel_inches[0]), head + panel_inches[1])
    figure = Figure(figsize=total)
    for i, group in enumerate(groups):
        left = (i + 1) * _LABEL_INCHES + i * panel_inches[0]
        axes = figure.add_axes((left / total[0], 0, panel_inches[0] / total[0], panel_inches[1] / total[1]))
        axes.set_axis_off()
        axes.set_title(group.name, fontsize=11)
        axes.imshow(_sheet(group, signed=signed, shape=(high, wide)), aspect="auto", extent=(0, wide, high, 0))
        for row, label in enumerate(group.labels):
            middle = row * (height + _gap(height)) + height / 2
            axes.text(-width / 8, middle, label, ha="right", va="center", fontsize=8)
        if not group.labels:
            axes.text(wide / 2, high / 2, "no unit is active often enough", ha="center", va="center", color=GREY)
    figure.suptitle(title, y=1 - 0.1 / total[1], va="top")
    return figure


def _gap(size: int) -> int:
    """Pixels between images of so many."""
    return -(-size // 14)


def _sheet(group: UnitStrips, *, signed: bool, shape: tuple[int, int]) -> Array:
    """All pictures of a group as one in colours, ``(*shape, 3)``."""
    _, _, height, width = group.images.shape
    row, column = height + _gap(height), width + _gap(width)
    sheet = np.ones((*shape, 3))
    for i, (atom, images) in enumerate(zip(coloured(group.atoms, signed=signed), group.images, strict=True)):
        sheet[i * row : i * row + height, :width] = atom
        for j, image in enumerate(images):
            start = column + width // 3 + j * column
            sheet[i * row : i * row + height, start : start + width] = np.nan_to_num(image, nan=1.0)[..., None]
    return sheet


def coloured(atoms: Array, *, signed: bool) -> Array:
    """Atoms ``(n, H, W)`` to colours ``(n, H, W, 3)``: grey, or red and blue around 0."""
    low = -np.abs(atoms).max(axis=(1, 2), keepdims=True) if signed else atoms.min(axis=(1, 2), keepdims=True)
    high = -low if signed else atoms.max(axis=(1, 2), keepdims=True)
    colours: Array = colormaps["RdBu_r" if signed else "gray"]((atoms - low) / np.maximum(high - low, 1e-12))[..., :3]
    return colours


def auroc_panels(
    auroc: Array,
    chance: Array,
    selective: npt.NDArray[np.intp],
    classes: Sequence[int],
    *,
    of: int,
    least_auroc: float,
    title: str,
) -> Figure:
    """Two panels: the AUROCs ``(n,)`` of some units beside those under shuffled labels ``(P, n)``, and how many of all
    ``of`` units are selective for each class ``(C,)``.
    """
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.linspace(0.5, 1, _BINS + 1)
    counts, _ = np.histogram(auroc, edges)
    by_chance = np.histogram(chance, edges)[0] / max(len(chance), 1)
    left.stairs(counts, edges, fill=True, color=BLUE, label="units tested")
    left.stairs(by_chance, edges, color=GREY, linewidth=1.5, label="expected with shuffled labels")
    left.axvline(least_auroc, color="black", linestyle="--", linewidth=1, label=f"selective: {least_auroc:g} or more")
    left.set(title="How well units tell their best class", xlabel="AUROC of that class against the others")
    left.set(ylabel="units")
    bars = right.bar([str(value) for value in classes], 100 * selective / max(of, 1), color=BLUE)
    right.bar_label(bars, [str(count) for count in selective.tolist()], fontsize=9, color=GREY, padding=2)
    right.set(title="Selective units by class", xlabel="class", ylabel="% of all units")
    right.set_ylim(0, 110 * max(selective.max(), 1) / max(of, 1))
    finish(figure, title, columns=3)
    return figure
