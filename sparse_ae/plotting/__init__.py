"""Arrays to matplotlib figures, in one style; nothing else."""

from sparse_ae.plotting.codes import sparsity_panels
from sparse_ae.plotting.curves import Curves, curve_panels
from sparse_ae.plotting.fronts import Front, front_panels
from sparse_ae.plotting.images import feature_grid, image_pairs
from sparse_ae.plotting.style import to_png, to_svg
from sparse_ae.plotting.sweeps import Panel, sweep_panels

__all__ = [
    "Curves",
    "Front",
    "Panel",
    "curve_panels",
    "feature_grid",
    "front_panels",
    "image_pairs",
    "sparsity_panels",
    "sweep_panels",
    "to_png",
    "to_svg",
]
