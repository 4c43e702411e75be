"""What is lost: test images above their reconstructions."""

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Result, Sample
from sparse_ae.models import Coder
from sparse_ae.plotting import image_pairs


@torch.inference_mode()
def analyse(coder: Coder, sample: Sample, *, n_images: PositiveInt) -> Result:
    """``n_images`` images, as many of each class as of any other, the first of each.

    Numbers: of the images shown their ``index`` in the sample, their ``label``, each one's ``mse``, and of these the
    ``mean``, the ``best`` and the ``worst``.
    """
    index = _spread_over_classes(sample.label.cpu(), n_images)
    x = sample.x[index.to(sample.x.device)]
    x_hat = coder.decode(coder.encode(x)).float().cpu()
    x = x.float().cpu()
    mse = (x_hat - x).square().mean(dim=1)
    labels = [f"{value:.4f}" for value in mse.tolist()]
    above, below = (images.reshape(-1, *sample.shape).mean(dim=1).numpy() for images in (x, x_hat))
    numbers = {
        "index": index.tolist(),
        "label": sample.label.cpu()[index].tolist(),
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
