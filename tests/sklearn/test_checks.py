"""scikit-learn's own checks of estimators: all of them pass, and no failure is expected."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from sparse_ae.sklearn import SparseAutoencoder, SparseCoder

ESTIMATORS = [
    SparseAutoencoder(max_iter=2),
    SparseAutoencoder(4, method="l1", network="mlp", normalize="whiten", max_iter=2, sparse_output=True),
    SparseCoder(method_options={"epochs": 2}),
    SparseCoder(method="pca"),
]


def _cases() -> list[Any]:
    """Each check of each estimator; ``parametrize_with_checks`` gives a generator, which pytest will refuse."""
    cases = []
    for number, estimator in enumerate(ESTIMATORS):
        for place, (copy, check) in enumerate(estimator_checks_generator(estimator)):
            name = f"{type(estimator).__name__}{number}-{check.func.__name__}-{place}"
            cases.append(pytest.param(copy, check, id=name))
    return cases


@pytest.mark.parametrize(("estimator", "check"), _cases())
def test_every_check_passes(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it a check is skipped
    check(estimator)
