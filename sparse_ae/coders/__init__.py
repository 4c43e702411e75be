"""Classical coders behind the ``Coder`` protocol."""

from sparse_ae.coders.pca import PCA

__all__ = ["PCA"]
