"""Arrays to matplotlib figures, in one style; nothing else."""

from sparse_ae.plotting.codes import sparsity_panels
from sparse_ae.plotting.images import feature_grid, image_pairs
from sparse_ae.plotting.style import to_png

__all__ = ["feature_grid", "image_pairs", "sparsity_panels", "to_png"]
