"""Estimators for scikit-learn: sparse autoencoders and classical coders as transformers.

They stand in pipelines and searches, are cloned and pickled, and write nothing to disk.

>>> from sklearn.datasets import load_digits
>>> from sparse_ae.sklearn import SparseAutoencoder
>>> x = load_digits().data[:500]
>>> coder = SparseAutoencoder(n_components=64, k=8, max_iter=20, random_state=0)
>>> coder.fit_transform(x).shape, coder.components_.shape, coder.score(x) > 0.5
((500, 64), (64, 64), True)
"""

from sparse_ae.sklearn.autoencoder import SparseAutoencoder
from sparse_ae.sklearn.coder import SparseCoder

__all__ = ["SparseAutoencoder", "SparseCoder"]
