"""Subjects on data that are no grey digits with labels: vectors, images of another size, colour, other units."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from sparse_ae.analysis import Sample, Subject
from sparse_ae.coders import KSVD, Coder
from sparse_ae.models import Linear, SparseAutoencoder
from sparse_ae.run.directory import Run
from sparse_ae.sparsity import TopK

TRAIN, VAL = 1200, 200
UNITS, ACTIVE = 32, 4


def digits() -> tuple[Tensor, Tensor]:
    """Digits of 8 x 8 as scikit-learn ships them, in 0 to 16: ``(1797, 64)`` and their classes."""
    found = load_digits()
    return torch.from_numpy(found.data).float(), torch.from_numpy(found.target).long()


def crops(n: int = 1700, size: int = 12) -> tuple[Tensor, Tensor]:
    """Pieces of scikit-learn's two photographs, in [0, 1]: ``(n, 3 size size)`` and which photograph they are of."""
    random = np.random.default_rng(0)
    label = random.integers(2, size=n)
    photographs = np.stack(load_sample_images().images)
    top, left = (random.integers(side - size, size=n) for side in photographs.shape[1:3])
    places = np.arange(size)
    rows, columns = top[:, None, None] + places[:, None], left[:, None, None] + places
    pieces = photographs[label[:, None, None], rows, columns].transpose(0, 3, 1, 2)
    return torch.from_numpy(pieces.reshape(n, -1) / 255).float(), torch.from_numpy(label)


def atoms_by_ksvd(x: Tensor, seed: int = 0) -> Coder:
    """K-SVD's coder: no encoder, codes of either sign."""
    return KSVD(UNITS, ACTIVE, epochs=3, seed=seed).fit(x)


def autoencoder(x: Tensor, seed: int = 0) -> Coder:
    """TopK autoencoder, trained for a second on data divided by their standard deviation, which its weights undo."""
    torch.manual_seed(seed)
    model = SparseAutoencoder(
        Linear(input_dim=x.shape[1], latent_dim=UNITS, unit_norm=False), TopK(k=ACTIVE, latent_dim=UNITS)
    )
    scale = x.std()
    scaled = x / scale
    model.network.b_pre.data.copy_(scaled.mean(dim=0))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        batch = scaled[torch.randint(len(x), (256,))]
        optimizer.zero_grad()
        F.mse_loss(model(batch, batch).x_hat, batch).backward()
        optimizer.step()
    with torch.no_grad():
        model.network.b_pre.mul_(scale)
        model.network.atoms.mul_(scale)
        model.network.encoder_weight.div_(scale)
    return model.eval()


def subject_on(
    data: tuple[Tensor, Tensor | None],
    shape: tuple[int, ...],
    learn: Callable[[Tensor], Coder],
    run: Run | None = None,
) -> Subject:
    """A coder learned from the first rows, and a sample of the last."""
    x, label = data

    def rows(part: slice) -> tuple[Tensor, Tensor | None]:
        return x[part], None if label is None else label[part]

    parts = {"train": slice(TRAIN), "val": slice(TRAIN, TRAIN + VAL), "test": slice(TRAIN + VAL, None)}

    def labelled(split: Literal["train", "val"]) -> tuple[Tensor, Tensor | None]:
        return rows(parts[split])

    sample = Sample(*rows(parts["test"]), shape, 0.1, lambda: rows(parts["train"])[0], labelled)
    return Subject(learn(x[parts["train"]]), sample, run)
