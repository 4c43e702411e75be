"""What is lost: test images above their reconstructions."""

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.plotting import image_pairs


def analyse(subject: Subject, *, n_images: PositiveInt) -> Result:
    """``n_images`` images, as many of each class as of any other, the first of each.

    Numbers: of the images shown their ``index`` in the sample, their ``label``, each one's ``mse``, and of these the
    ``mean``, the ``best`` and the ``worst``.
    """
    index = _spread_over_classes(subject.label, n_images)
    x, x_hat = subject.x[index], subject.x_hat[index]
    mse = (x_hat - x).square().mean(dim=1)
    labels = [f"{value:.4f}" for value in mse.tolist()]
    above, below = subject.images(x), subject.images(x_hat)
    numbers = {
        "index": index.tolist(),
        "label": subject.label[index].tolist(),
        "mse": mse.tolist(),
        "mean": float(mse.mean()),
        "best": float(mse.min()),
        "worst": float(mse.max()),
    }
    title = f"Reconstructions of {len(x)} test images, MSE of each below (mean {float(mse.mean()):.4f})"
    figure = image_pairs(above, below, labels, names=("input", "output"), title=title)
    return Result(numbers, {"reconstructions": figure})


def _spread_over_classes(label: Tensor, n: int) -> Tensor:
    """Indices of the first image of every class, then of the second, and so on: ``n`` of them, sorted by class."""
    rank = torch.zeros_like(label, dtype=torch.long)
    for value in label.unique():
        rank[label == value] = torch.arange(int((label == value).sum()))
    # Stable sorts: first by class, then by rank, so that ties of rank stay in the order of their classes.
    by_class = label.argsort(stable=True)
    chosen = by_class[rank[by_class].argsort(stable=True)][:n]
    return chosen[label[chosen].argsort(stable=True)]
