"""Reconstructions: samples of the test split above their reconstructions."""

from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis import contexts
from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.statistics import stratified
from sparse_ae.data.examples import Text
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.pictures import View
from sparse_ae.plotting.style import Array

_PAIRS_PER_ROW = 8


class Numbers(NamedTuple):
    """Errors of the samples shown, per value."""

    index: list[int]  # type: ignore[assignment]  # not tuple.index, which nobody calls
    """Indices of the samples."""
    label: list[int] | None
    """Classes of the samples; None for data without classes."""
    mse: list[float]
    """MSE of each sample."""
    mean: Annotated[float, Label("mean MSE of the samples shown (per value)")]
    """Mean MSE of the samples."""
    best: float
    """Least MSE of a sample."""
    worst: Annotated[float, Label("worst MSE of the samples shown (per value)")]
    """Largest MSE of a sample."""


def analyse(subject: Subject, *, n_images: PositiveInt = 16) -> Result:
    """``n_images`` samples and their reconstructions, equally many of each class, the first of each.

    Without classes, the first samples. Of text, tokens evenly spread, in their contexts, with the error as colour.
    """
    text = subject.sample.text
    index = _spread_over_classes(subject.strata, n_images) if text is None else stratified(subject.strata, n_images)
    x, x_hat = subject.x[index], subject.x_hat[index]
    mse = (x_hat - x).square().mean(dim=1)
    numbers = Numbers(
        index=index.tolist(),
        label=None if subject.label is None else subject.label[index].tolist(),
        mse=mse.tolist(),
        mean=float(mse.mean()),
        best=float(mse.min()),
        worst=float(mse.max()),
    )
    mean, *labels = (
        f"{value:.4f}" if subject.view.is_unit else f"{value:.3g}" for value in (numbers.mean, *numbers.mse)
    )
    if text is not None:
        return Result.of(numbers, {"reconstructions": _errors(subject, text, index)})
    title = f"Reconstructions of {len(x)} test {subject.noun}s, MSE of each below (mean {mean})"
    figure = _pairs(subject.images(x), subject.images(x_hat), labels, title=title, view=subject.view)
    return Result.of(numbers, {"reconstructions": figure})


def _spread_over_classes(label: Tensor, n: int) -> Tensor:
    """Indices of the first sample of every class, then of the second, and so on: ``n`` of them, sorted by class."""
    rank = torch.zeros_like(label, dtype=torch.long)
    for value in label.unique():
        rank[label == value] = torch.arange(int((label == value).sum()))
    # Stable sorts: first by class, then by rank, so that ties of rank stay in the order of their classes.
    by_class = label.argsort(stable=True)
    chosen = by_class[rank[by_class].argsort(stable=True)][:n]
    return chosen[label[chosen].argsort(stable=True)]


def _errors(subject: Subject, text: Text, index: Tensor) -> Figure:
    """Contexts of the tokens ``index (n,)``, with the MSE of each token as colour."""
    mse = (subject.x_hat - subject.x).square().mean(dim=1)
    variance = float((subject.x - subject.x.mean(dim=0)).square().mean())
    title = (
        f"Errors of {len(index)} test tokens, evenly spread; on the left: the MSE of the marked token\n"
        f"background: the MSE at each token, darkest at {variance:.3g} and above, the variance of a value"
    )
    return contexts.draw_values(text, index, mse, largest=variance or 1, title=title)


def _pairs(x: Array, x_hat: Array, labels: list[str], *, title: str, view: View) -> Figure:
    """Pictures of inputs ``(n, ...)`` above those of outputs, a label under each pair."""
    count, *size = x.shape
    columns = min(_PAIRS_PER_ROW, count)
    rows = -(-count // columns)
    table = np.full((2, rows * columns, *size), np.nan)
    table[:, :count] = x, x_hat
    pictures = table.reshape(2, rows, columns, *size).swapaxes(0, 1).reshape(2 * rows, columns, *size)
    below = [label for start in range(0, count, columns) for label in (*[""] * columns, *labels[start:][:columns])]
    return mosaic([Block(pictures, rows=["input", "output"] * rows, below=below)], title=title, view=view)
