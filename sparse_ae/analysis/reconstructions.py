"""Reconstructions: test images above their reconstructions."""

from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import Array

_PAIRS_PER_ROW = 8


class Numbers(NamedTuple):
    """Errors of the images shown, per pixel."""

    index: list[int]  # type: ignore[assignment]  # not tuple.index, which nobody calls
    """Indices of the images in the sample."""
    label: list[int]
    """Classes of the images."""
    mse: list[float]
    """MSE of each image."""
    mean: Annotated[float, Label("mean MSE of the images shown (per pixel)")]
    """Mean MSE of the images."""
    best: float
    """Least MSE of an image."""
    worst: Annotated[float, Label("worst MSE of the images shown (per pixel)")]
    """Largest MSE of an image."""


def analyse(subject: Subject, *, n_images: PositiveInt = 16) -> Result:
    """``n_images`` images and their reconstructions, equally many of each class, the first of each."""
    index = _spread_over_classes(subject.label, n_images)
    x, x_hat = subject.x[index], subject.x_hat[index]
    mse = (x_hat - x).square().mean(dim=1)
    numbers = Numbers(
        index=index.tolist(),
        label=subject.label[index].tolist(),
        mse=mse.tolist(),
        mean=float(mse.mean()),
        best=float(mse.min()),
        worst=float(mse.max()),
    )
    title = f"Reconstructions of {len(x)} test images, MSE of each below (mean {numbers.mean:.4f})"
    labels = [f"{value:.4f}" for value in numbers.mse]
    figure = _image_pairs(subject.images(x), subject.images(x_hat), labels, title=title)
    return Result.of(numbers, {"reconstructions": figure})


def _spread_over_classes(label: Tensor, n: int) -> Tensor:
    """Indices of the first image of every class, then of the second, and so on: ``n`` of them, sorted by class."""
    rank = torch.zeros_like(label, dtype=torch.long)
    for value in label.unique():
        rank[label == value] = torch.arange(int((label == value).sum()))
    # Stable sorts: first by class, then by rank, so that ties of rank stay in the order of their classes.
    by_class = label.argsort(stable=True)
    chosen = by_class[rank[by_class].argsort(stable=True)][:n]
    return chosen[label[chosen].argsort(stable=True)]


def _image_pairs(x: Array, x_hat: Array, labels: list[str], *, title: str) -> Figure:
    """Inputs ``(n, H, W)`` in [0, 1] above outputs, a label under each pair."""
    count, height, width = x.shape
    columns = min(_PAIRS_PER_ROW, count)
    rows = -(-count // columns)
    table = np.full((2, rows * columns, height, width), np.nan)
    table[:, :count] = x, x_hat
    images = table.reshape(2, rows, columns, height, width).swapaxes(0, 1).reshape(2 * rows, columns, height, width)
    below = [label for start in range(0, count, columns) for label in (*[""] * columns, *labels[start:][:columns])]
    return mosaic([Block(images, rows=["input", "output"] * rows, below=below)], title=title)
