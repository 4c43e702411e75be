"""Base class of the estimators: what a fitted coder does for scikit-learn."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix, issparse, vstack
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sparse_ae.coders import CoderModule
from sparse_ae.metrics import CodeMetrics

FLOATS = (np.float64, np.float32)
"""Types of data that are kept; others become the first."""
ROWS = 10_000
"""Number of rows that are coded at a time."""
BORROWED = Lock()
"""Held while torch's generator and its number of threads, which all threads share, are not as the user has them."""

Floats = npt.NDArray[Any]


class CodingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """z = encode(x), x_hat = decode(z) with the coder ``model_``, which ``fit`` of a subclass sets beside ``mean_``.

    Data ``X (n, D)`` are arrays or data frames without missing values, not sparse. Codes are ``(n, N)``, in the type of
    the training data, float32 or float64; with ``sparse_output`` they are a CSR matrix.
    """

    sparse_output: bool
    model_: CoderModule
    mean_: Floats

    def transform(self, X: Any) -> Any:
        """Encode ``X (n, D)`` as codes ``(n, N)``. Raises ``NotFittedError`` before ``fit``."""
        check_is_fitted(self)
        x = as_tensor(validate_data(self, X, dtype=FLOATS, reset=False))
        codes = (z.numpy() for _, z in self._coded(x))
        return vstack([csr_matrix(z) for z in codes], format="csr") if self.sparse_output else np.concatenate([*codes])

    @torch.no_grad()
    def inverse_transform(self, X: Any) -> Floats:
        """Decode codes ``X (n, N)``, dense or sparse, to data ``(n, D)``."""
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=FLOATS)
        parts = (codes[start : start + ROWS] for start in range(0, codes.shape[0], ROWS))
        dense = (part.toarray() if issparse(part) else part for part in parts)
        return np.concatenate([self.model_.decode(as_tensor(z)).numpy() for z in dense])

    def score(self, X: Any, y: Any = None) -> float:
        """Explained variance of ``X (n, D)``, 1 - FVU: 1 for perfect reconstructions, 0 for ``mean_``.

        ``y`` is ignored.
        """
        check_is_fitted(self)
        x = as_tensor(validate_data(self, X, dtype=FLOATS, reset=False))
        metrics = CodeMetrics(mean=torch.from_numpy(self.mean_), latent_dim=self._n_features_out)
        for rows, z in self._coded(x):
            metrics.update(rows, z, self.model_.decode(z).detach())
        return 1 - metrics.values()["fvu"]

    @property
    def components_(self) -> Floats:
        """Dictionary ``(N, D)``, an atom per row, in the unit of the data. Raises ``NotFittedError`` before ``fit``."""
        check_is_fitted(self)
        return self.model_.dictionary.detach().numpy().copy()

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent_dim

    @torch.no_grad()
    def _coded(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and their codes, part by part."""
        for rows in x.split(ROWS):
            yield rows, self.model_.encode(rows)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def as_tensor(x: Floats) -> Tensor:
    """Tensor of an array, sharing its memory where torch can."""
    return torch.from_numpy(np.require(x, requirements=["C", "W"]))
