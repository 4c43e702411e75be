"""CodeMetrics against NumPy, on uneven batches."""

import math

import numpy as np
import pytest
import torch

from sparse_ae.metrics import NAMES, CodeMetrics, evaluate


def _codes(samples: int, units: int) -> torch.Tensor:
    z = torch.relu(torch.randn(samples, units))
    z[:, 0] = 0  # a dead unit
    z[:, 1] = 0
    z[0, 1] = 5  # a unit active on a single sample
    z[3] = 0  # a sample without a code
    return z


def test_all_metrics_against_numpy_on_uneven_batches() -> None:
    torch.manual_seed(0)
    samples, dim, units, threshold = 501, 12, 9, 0.3
    x, x_hat, z, mean = (
        torch.rand(samples, dim),
        torch.rand(samples, dim),
        _codes(samples, units),
        torch.rand(dim),
    )
    metrics = CodeMetrics(mean=mean, latent_dim=units, threshold=threshold)
    for rows in torch.arange(samples).split([200, 1, 33, 267]):
        metrics.update(x[rows], z[rows], x_hat[rows])
    result = {name: float(value) for name, value in metrics.compute().items()}

    a, b, c, m = (t.double().numpy() for t in (x, x_hat, z, mean))
    active = z.numpy() > threshold
    coded = c[np.abs(c).sum(axis=1) > 0]
    hoyer = (math.sqrt(units) - np.abs(coded).sum(1) / np.linalg.norm(coded, axis=1)) / (math.sqrt(units) - 1)
    expected = {
        "mse": ((a - b) ** 2).mean(),
        "fvu": ((a - b) ** 2).sum() / ((a - m) ** 2).sum(),
        "l0": (c != 0).sum(1).mean(),
        "population_sparsity": active.mean(1).mean(),
        "lifetime_sparsity": active.mean(0).mean(),
        "inactive_units": (active.mean(0) < 0.01).sum(),
        "dead_units": (c == 0).all(0).sum(),
        "hoyer": hoyer.mean(),
    }
    assert tuple(result) == NAMES == tuple(expected)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=1e-6), name
    assert result["dead_units"] == 1
    assert result["inactive_units"] == 2
    np.testing.assert_allclose(metrics.lifetime, active.mean(0), rtol=1e-6)


class MeanPredictor:
    """Coder that predicts the training mean for every sample."""

    def __init__(self, mean: torch.Tensor) -> None:
        self.mean = mean
        self.dictionary = mean.new_ones(4, len(mean))

    def encode_rows(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), 4)

    def decode_rows(self, z: torch.Tensor) -> torch.Tensor:
        return self.mean.expand(len(z), -1)


def test_the_mean_predictor_scores_exactly_one() -> None:
    torch.manual_seed(0)
    x, mean = torch.rand(257, 30), torch.rand(30)
    batches = [(part, part) for part in x.split(100)]
    metrics = CodeMetrics(mean=mean, latent_dim=4, threshold=0.1)
    result = evaluate(MeanPredictor(mean), batches, metrics)
    assert result["fvu"] == 1.0
    assert result["dead_units"] == 4
    assert math.isnan(result["hoyer"])  # no sample has a code: undefined, and not a number that looks like one


def test_the_split_does_not_depend_on_its_batches() -> None:
    torch.manual_seed(0)
    x, z = torch.rand(100, 6), _codes(100, 5)
    results = []
    for size in (100, 7):
        metrics = CodeMetrics(mean=torch.zeros(6), latent_dim=5, threshold=0.1)
        for a, b in zip(x.split(size), z.split(size), strict=True):
            metrics.update(a, b, a * 0.5)
        results.append({k: float(v) for k, v in metrics.compute().items()})
    for name in NAMES:
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-7), name
