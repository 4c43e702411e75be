"""Classical coders behind the ``Coder`` protocol."""

from sparse_ae.coders.omp import OMP, orthogonal_matching_pursuit
from sparse_ae.coders.pca import PCA

__all__ = ["OMP", "PCA", "orthogonal_matching_pursuit"]
