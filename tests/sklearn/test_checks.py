"""scikit-learn's own checks of estimators."""

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from sparse_ae.sklearn import SparseAutoencoder, SparseCoder


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this variable a check is skipped."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@parametrize_with_checks(
    [
        SparseAutoencoder(max_iter=2),
        SparseAutoencoder(4, method="l1", network="mlp", normalize="whiten", max_iter=2, sparse_output=True),
        SparseCoder(method_options={"epochs": 2}),
        SparseCoder(method="pca"),
    ]
)
def test_every_check_passes(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
