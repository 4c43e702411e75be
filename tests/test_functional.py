"""The maths, against hand-computed values, closed forms and autograd."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sparse_ae import functional as F


def test_reconstruction_error_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    x_hat = torch.tensor([[1.0, 1.0], [2.0, 5.0]])  # squared errors 1, 0, 0, 4
    assert F.reconstruction_error(x_hat, x, "mean").item() == 5 / 4
    assert F.reconstruction_error(x_hat, x, "sum").item() == 5 / 2


def test_l1_by_hand() -> None:
    z = torch.tensor([[1.0, -2.0, 0.0], [0.0, 4.0, 0.5]])
    assert F.l1_penalty(z, "mean").item() == pytest.approx(7.5 / 6)
    assert F.l1_penalty(z, "sum").item() == pytest.approx(7.5 / 2)
    norms = torch.tensor([1.0, 10.0, 2.0])  # 1*1 + 2*10 + 4*10 + 0.5*2 = 62
    assert F.l1_penalty(z, "sum", norms).item() == pytest.approx(31.0)


def test_reductions_convert_as_the_readme_says() -> None:
    """sum-loss = D * mean-loss when the L1 weight is scaled by D/N and the KL weight by D."""
    torch.manual_seed(0)
    batch, dim, units, weight = 7, 5, 3, 0.3
    x, x_hat, z = torch.rand(batch, dim), torch.rand(batch, dim), torch.rand(batch, units)
    rho = torch.tensor(0.05)
    mean = F.reconstruction_error(x_hat, x, "mean") + weight * F.l1_penalty(z, "mean")
    total = F.reconstruction_error(x_hat, x, "sum") + weight * dim / units * F.l1_penalty(z, "sum")
    torch.testing.assert_close(total, dim * mean)
    mean = F.reconstruction_error(x_hat, x, "mean") + weight * F.kl_penalty(z, rho)
    total = F.reconstruction_error(x_hat, x, "sum") + weight * dim * F.kl_penalty(z, rho)
    torch.testing.assert_close(total, dim * mean)


def test_kl_by_hand() -> None:
    z = torch.tensor([[0.2, 0.9], [0.4, 0.7]])  # means 0.3 and 0.8
    rho = 0.1
    expected = sum(rho * math.log(rho / q) + (1 - rho) * math.log((1 - rho) / (1 - q)) for q in (0.3, 0.8))
    assert F.kl_penalty(z, torch.tensor(rho)).item() == pytest.approx(expected, rel=1e-6)


def test_kl_gradient_is_autograds_and_the_closed_form() -> None:
    rho = torch.tensor(0.05, dtype=torch.float64)
    z = torch.rand(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: F.kl_penalty(z, rho), z)
    F.kl_penalty(z, rho).backward()
    q = z.detach().mean(dim=0)
    closed_form = ((1 - rho) / (1 - q) - rho / q) / len(z)
    torch.testing.assert_close(z.grad, closed_form.expand_as(z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mean", [0.0, 1e-30, 1e-8, 0.05, 1 - 1e-8, 1.0])
def test_kl_is_finite_and_not_negative_everywhere(mean: float, dtype: torch.dtype) -> None:
    rho_hat = torch.tensor([mean], dtype=dtype, requires_grad=True)
    kl = F.bernoulli_kl(torch.tensor(0.05, dtype=dtype), rho_hat)
    kl.sum().backward()
    assert kl.isfinite().all()
    assert (kl >= 0).all()
    assert rho_hat.grad is not None
    assert rho_hat.grad.isfinite().all()


def test_kl_is_zero_at_its_target_and_never_below() -> None:
    rho = torch.rand(10_000) * 0.98 + 0.01
    assert (F.bernoulli_kl(rho, rho) >= 0).all()
    torch.testing.assert_close(F.bernoulli_kl(rho, rho), torch.zeros_like(rho), atol=1e-6, rtol=0)


def test_penalties_of_bfloat16_codes_keep_float32_precision() -> None:
    """bfloat16's eps is 0.008: a mean activation below it must not be clamped up to it."""
    z = torch.full((1000, 4), 0.001)
    rho = torch.tensor(0.001)
    assert F.kl_penalty(z.bfloat16(), rho).item() == pytest.approx(0, abs=1e-5)
    assert F.kl_penalty(z.bfloat16(), rho.bfloat16()).dtype == torch.float32
    assert F.l1_penalty(z.bfloat16()).dtype == torch.float32


def test_squared_error_broadcasts_and_accumulates_in_double() -> None:
    rng = np.random.default_rng(0)
    x, mean = rng.random((1000, 784), dtype=np.float32), rng.random(784, dtype=np.float32)
    expected = ((mean.astype(np.float64) - x) ** 2).sum()
    result = F.squared_error(torch.from_numpy(mean), torch.from_numpy(x))
    assert result.dtype == torch.float64
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_population_and_lifetime_sparsity_by_hand() -> None:
    z = torch.tensor([[0.05, 0.2, 0.3], [0.0, 0.0, 0.11]])
    torch.testing.assert_close(F.population_sparsity(z, 0.1), torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
    torch.testing.assert_close(F.lifetime_sparsity(z, 0.1), torch.tensor([0, 0.5, 1], dtype=torch.float64))


def test_hoyer_extremes() -> None:
    z = torch.tensor([[0, 0, 3.0, 0], [2.0, 2, 2, 2], [0, 0, 0, 0], [1.0, -1, 0, 0]])
    sparseness = F.hoyer(z)
    middle = (2 - math.sqrt(2)) / (2 - 1)
    np.testing.assert_allclose(sparseness, [1, 0, math.nan, middle], atol=1e-12)
    assert F.hoyer(torch.ones(3, 1)).isnan().all()  # a single unit has no sparseness


def test_geometric_median_against_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    x[:20] += 50  # outliers that would pull a mean away
    best = minimize(lambda m: np.linalg.norm(x - m, axis=1).sum(), x.mean(axis=0), tol=1e-12)
    np.testing.assert_allclose(F.geometric_median(torch.from_numpy(x)), best.x, atol=1e-4)
