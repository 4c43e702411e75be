"""The metrics of a split, streamed: a thin shell around ``functional`` that only accumulates."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torchmetrics import Metric

from sparse_ae.functional import (
    active,
    dead_units,
    hoyer,
    inactive_units,
    population_sparsity,
    squared_error,
)

NAMES = (
    "mse",
    "fvu",
    "l0",
    "population_sparsity",
    "lifetime_sparsity",
    "inactive_units",
    "dead_units",
    "hoyer",
)


class CodeMetrics(Metric):
    """Everything said about a split, from batches of ``x, z, x_hat``; exact to the last partial batch.

    - ``mse``: squared error over all elements.
    - ``fvu``: squared error over the variance around the *training* mean; the mean predictor scores exactly 1.
    - ``l0``: codes != 0 per sample.
    - ``population_sparsity``: share of units active in a sample, averaged over samples; active is |z| > ``threshold``.
    - ``lifetime_sparsity``: share of samples that activate a unit, averaged over units.
    - ``inactive_units``: units active on under 1 % of the samples; ``dead_units``: units whose code is never != 0.
    - ``hoyer``: Hoyer sparseness, averaged over the samples whose code is not all zero (NaN if there are none).
    """

    full_state_update = False
    mean: Tensor
    error: Tensor
    variance: Tensor
    samples: Tensor
    active_samples: Tensor
    nonzero_samples: Tensor
    hoyer_sum: Tensor
    hoyer_samples: Tensor
    population_sum: Tensor

    def __init__(self, *, mean: Tensor, latent_dim: int, threshold: float) -> None:
        """``mean (D,)`` of the training data, ``latent_dim`` N."""
        super().__init__()
        self.threshold = threshold
        self.register_buffer("mean", mean, persistent=False)
        scalar, units = torch.zeros((), dtype=torch.float64), torch.zeros(latent_dim, dtype=torch.int64)
        for name in ("error", "variance", "hoyer_sum", "population_sum"):
            self.add_state(name, scalar.clone(), dist_reduce_fx="sum")
        for name in ("samples", "hoyer_samples"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("active_samples", "nonzero_samples"):
            self.add_state(name, units.clone(), dist_reduce_fx="sum")

    def update(self, x: Tensor, z: Tensor, x_hat: Tensor) -> None:
        """Add a batch: ``x, x_hat (B, D)``, ``z (B, N)``."""
        self.error += squared_error(x_hat, x)
        self.variance += squared_error(self.mean, x)
        self.samples += len(x)
        self.active_samples += active(z, self.threshold).sum(dim=0)
        self.nonzero_samples += (z != 0).sum(dim=0)
        self.population_sum += population_sparsity(z, self.threshold).sum()
        sparseness = hoyer(z)
        self.hoyer_sum += sparseness.nansum()
        self.hoyer_samples += sparseness.isfinite().sum()

    @property
    def lifetime(self) -> Tensor:
        """Lifetime sparsity of each unit, ``(N,)``."""
        return self.active_samples / self.samples.double()

    def compute(self) -> dict[str, Tensor]:
        """Float64 scalars by name, in the order of ``NAMES``."""
        return {
            "mse": self.error / (self.samples * len(self.mean)),
            "fvu": self.error / self.variance,
            "l0": self.nonzero_samples.sum() / self.samples.double(),
            "population_sparsity": self.population_sum / self.samples,
            "lifetime_sparsity": self.lifetime.mean(),
            "inactive_units": inactive_units(self.lifetime).double(),
            "dead_units": dead_units(self.nonzero_samples).double(),
            "hoyer": self.hoyer_sum / self.hoyer_samples,
        }


class _Coder(Protocol):
    def encode(self, x: Tensor) -> Tensor: ...
    def decode(self, z: Tensor) -> Tensor: ...


@torch.inference_mode()
def evaluate(coder: _Coder, batches: Iterable[tuple[Tensor, Tensor, Tensor]], metrics: CodeMetrics) -> dict[str, float]:
    """The metrics of a whole split: ``batches`` yield (x, target, label); the coder is on the device of ``metrics``."""
    for batch in batches:
        x, target = (part.to(metrics.mean.device) for part in batch[:2])
        z = coder.encode(x)
        metrics.update(target, z, coder.decode(z))
    return {name: float(value) for name, value in metrics.compute().items()}
