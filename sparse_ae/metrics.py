"""Metrics of a split, accumulated batch by batch from ``functional``."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import Metric

from sparse_ae.coders.module import CoderModule
from sparse_ae.functional import (
    active,
    blocks,
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
"""Names of the metrics, in the order in which they are reported."""


class CodeMetrics(Metric):
    """Metrics of a split from batches of ``x, z, x_hat``, in float64 and exact to the last partial batch.

    - ``mse``: squared error over all elements, in the unit of the data: errors are multiplied by ``unit``.
    - ``fvu``: squared error over the variance around the *training* mean; the mean predictor scores exactly 1.
    - ``l0``: codes != 0 per sample.
    - ``population_sparsity``: share of units active in a sample, averaged over samples; active is |z| > ``threshold``.
    - ``lifetime_sparsity``: share of samples that activate a unit, averaged over units.
    - ``inactive_units``: units active on under 1 % of the samples; ``dead_units``: units whose code is never != 0.
    - ``hoyer``: Hoyer sparseness, averaged over the samples whose code is not all zero (NaN if there are none).

    >>> metrics = CodeMetrics(mean=torch.tensor([1.0, 0.0]), latent_dim=3)
    >>> metrics.update(x=torch.eye(2), z=torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.5, 0.0]]), x_hat=torch.eye(2) / 2)
    >>> {name: round(value.item(), 3) for name, value in metrics.compute().items() if name in ("mse", "fvu", "l0")}
    {'mse': 0.125, 'fvu': 0.25, 'l0': 1.5}
    """

    full_state_update = False
    mean: Tensor
    unit: Tensor | None
    error: Tensor
    variance: Tensor
    samples: Tensor
    active_samples: Tensor
    nonzero_samples: Tensor
    hoyer_sum: Tensor
    hoyer_samples: Tensor
    population_sum: Tensor

    def __init__(self, *, mean: Tensor, latent_dim: int, threshold: float = 0.1, unit: Tensor | None = None) -> None:
        """``mean (D,)`` is the training data's, ``latent_dim`` is N, a unit is active where |z| > ``threshold``.

        ``unit``, ``()`` or ``(D,)``, is that of the scale on which x is given; None for the data's own.
        """
        super().__init__()
        self.threshold = threshold
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("unit", unit, persistent=False)
        scalar, units = torch.zeros((), dtype=torch.float64), torch.zeros(latent_dim, dtype=torch.int64)
        for name in ("error", "variance", "hoyer_sum", "population_sum"):
            self.add_state(name, scalar.clone(), dist_reduce_fx="sum")
        for name in ("samples", "hoyer_samples"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("active_samples", "nonzero_samples"):
            self.add_state(name, units.clone(), dist_reduce_fx="sum")

    def code(self, coder: CoderModule, x: Tensor, target: Tensor) -> None:
        """Add a batch ``x (B, D)`` on the scale of training, as ``coder`` codes it, compared with ``target (B, D)``.

        Coded in parts, if the codes of all of it are very large.
        """
        for part in blocks(len(x), len(self.active_samples)):
            z = coder.encode_rows(x[part])
            x_hat = coder.decode_rows(z)
            self.update(target[part], _at_least_float32(z), _at_least_float32(x_hat))

    def update(self, x: Tensor, z: Tensor, x_hat: Tensor) -> None:
        """Add a batch: ``x, x_hat (B, D)``, ``z (B, N)``."""
        self.error += squared_error(x_hat, x, self.unit)
        self.variance += squared_error(self.mean, x, self.unit)
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
        """Return float64 scalars by name, in the order of ``NAMES``."""
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

    def values(self) -> dict[str, float]:
        """``compute`` as plain numbers."""
        return {name: float(value) for name, value in self.compute().items()}


@torch.inference_mode()
def evaluate(coder: CoderModule, batches: Iterable[tuple[Tensor, Tensor]], metrics: CodeMetrics) -> dict[str, float]:
    """Return the metrics of a whole split by name.

    ``batches`` yield (x, target). The coder is on the device of ``metrics``.

    >>> from sparse_ae.coders import Projection
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    >>> metrics = CodeMetrics(mean=x.mean(dim=0), latent_dim=1)
    >>> evaluate(Projection(torch.tensor([[1.0, 0.0]])), [(x, x)], metrics)["mse"]
    1.0
    """
    for x, target in batches:
        metrics.code(coder, x.to(metrics.mean.device), target.to(metrics.mean.device))
    return metrics.values()


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
