"""Scales against NumPy and scikit-learn, and the way back to the data's own unit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from sparse_ae.data.scale import Moments, Scale

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(500, 6, generator=GENERATOR) @ torch.randn(6, 6, generator=GENERATOR) * 3 + 7
X[:, 5] = 0.1  # constant, and no sum of it is exact


def fitted(normalize: str, x: torch.Tensor = X) -> Scale:
    return Scale.fit(normalize, Moments.of(x.split(77), covariance=normalize == "whiten"))  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 70), st.integers(0, 99))
def test_moments_are_those_of_all_rows_at_once(n: int, dim: int, chunk: int, seed: int) -> None:
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * 10 + 1000
    moments, array = Moments.of(x.split(chunk), covariance=True), x.double().numpy()
    assert moments.mean.numpy() == pytest.approx(array.mean(axis=0))
    assert moments.variance.numpy() == pytest.approx(array.var(axis=0), rel=1e-6, abs=1e-9)
    assert moments.covariance.numpy() == pytest.approx(np.cov(array.T, bias=True).reshape(dim, dim), rel=1e-5, abs=1e-7)
    assert (moments.n, moments.low, moments.high) == (n, array.min(), array.max())
    assert Moments.of(x.split(chunk)).variance.numpy() == pytest.approx(array.var(axis=0), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("covariance", [False, True])
def test_values_whose_squares_are_no_float32(covariance: bool) -> None:
    x = X * torch.tensor([1e-25, 1.0, 1e25, 1e-30, 1e30, 1.0])
    moments = Moments.of(x.split(77), covariance=covariance)
    assert moments.variance.numpy() == pytest.approx(x.double().numpy().var(axis=0), rel=1e-5)


REFERENCES = {
    "none": lambda x: x,
    "unit_interval": lambda x: (x - x.min()) / (x.max() - x.min()),
    "center": lambda x: x - x.mean(axis=0),
    "rms": lambda x: x / np.sqrt(np.square(x).mean()),
    "standardize": lambda x: StandardScaler().fit_transform(x),
}


@pytest.mark.parametrize("normalize", REFERENCES)
def test_scaled_rows_are_those_of_the_reference(normalize: str) -> None:
    expected = REFERENCES[normalize](X.double().numpy())
    assert fitted(normalize)(X).numpy() == pytest.approx(expected, abs=1e-5)


def test_whitened_rows_have_the_identity_as_covariance_and_are_turned_as_little_as_can_be() -> None:
    x = X[:, :5]
    scale = fitted("whiten", x)
    assert torch.cov(scale(x).T, correction=0).numpy() == pytest.approx(np.eye(5), abs=2e-3)
    assert torch.allclose(scale.whitening, scale.whitening.T, atol=1e-5)


@pytest.mark.parametrize("normalize", [*REFERENCES, "whiten"])
def test_the_inverse_leads_back(normalize: str) -> None:
    scale = fitted(normalize)
    assert scale.inverse(scale(X)).numpy() == pytest.approx(X.numpy(), abs=2e-4)
    steps = X[1:] - X[:-1]
    assert scale.rotate_back(scale(X[1:]) - scale(X[:-1])).numpy() == pytest.approx(steps.numpy(), abs=2e-4)


def test_moments_are_kept_in_a_file(tmp_path: Path) -> None:
    file, moments = tmp_path / "new" / "moments", Moments.of([X], covariance=True)
    assert Moments.load(file) is None
    moments.save(file)
    again = Moments.load(file)
    assert again is not None
    assert (again.n, again.low, again.high) == (moments.n, moments.low, moments.high)
    assert torch.equal(again.mean, moments.mean)
    assert torch.equal(again.covariance, moments.covariance)
    file.write_bytes(file.read_bytes()[:-5])
    assert Moments.load(file) is None
