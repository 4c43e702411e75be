"""PCA against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as Reference

from sparse_ae.coders import PCA


def test_pca_against_scikit_learn() -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64) + 3
    ours, theirs = PCA(5).fit(x), Reference(5, svd_solver="full").fit(x.numpy())
    np.testing.assert_allclose(ours.decode(ours.encode(x)), theirs.inverse_transform(theirs.transform(x.numpy())))
    cosines = np.abs((ours.dictionary.numpy() * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(cosines, 1)
    np.testing.assert_allclose(ours.encode(x).var(dim=0), theirs.explained_variance_)
    assert (ours.dictionary.amax(dim=1) == ours.dictionary.abs().amax(dim=1)).all()


def test_data_with_less_dimensions_than_components() -> None:
    x = torch.ones(10, 4)
    pca = PCA(3).fit(x)
    torch.testing.assert_close(pca.decode(pca.encode(x)), x)
    with pytest.raises(ValueError, match=r"latent_dim=5: more components than dimensions \(expected 1 to 4\)"):
        PCA(5).fit(x)
