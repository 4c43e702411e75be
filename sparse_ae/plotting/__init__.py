"""Arrays to matplotlib figures, in one style; nothing else."""

from sparse_ae.plotting.amortisation import error_curves
from sparse_ae.plotting.codes import (
    Activity,
    Histogram,
    class_panels,
    lifetime_panels,
    sparseness_panels,
    sparsity_panels,
    threshold_panels,
)
from sparse_ae.plotting.comparison import dot_panels
from sparse_ae.plotting.curves import Curves, curve_panels
from sparse_ae.plotting.fronts import Front, front_panels
from sparse_ae.plotting.images import feature_grid, image_pairs, top_image_rows
from sparse_ae.plotting.importance import importance_panels
from sparse_ae.plotting.mosaic import image_table
from sparse_ae.plotting.probe import ProbeLine, probe_panels
from sparse_ae.plotting.robustness import NoiseRow, robustness_panels
from sparse_ae.plotting.selectivity import UnitStrips, auroc_panels, class_heatmap, unit_strips
from sparse_ae.plotting.similarity import atom_map, cosine_heatmap, nearest_cosine_histogram
from sparse_ae.plotting.stability import AtomPairs, atom_pair_strips, matched_cosine_curves
from sparse_ae.plotting.style import to_png, to_svg
from sparse_ae.plotting.sweeps import Panel, sweep_panels
from sparse_ae.plotting.truncation import class_bars, truncation_panels

__all__ = [
    "Activity",
    "AtomPairs",
    "Curves",
    "Front",
    "Histogram",
    "NoiseRow",
    "Panel",
    "ProbeLine",
    "UnitStrips",
    "atom_map",
    "atom_pair_strips",
    "auroc_panels",
    "class_bars",
    "class_heatmap",
    "class_panels",
    "cosine_heatmap",
    "curve_panels",
    "dot_panels",
    "error_curves",
    "feature_grid",
    "front_panels",
    "image_pairs",
    "image_table",
    "importance_panels",
    "lifetime_panels",
    "matched_cosine_curves",
    "nearest_cosine_histogram",
    "probe_panels",
    "robustness_panels",
    "sparseness_panels",
    "sparsity_panels",
    "sweep_panels",
    "threshold_panels",
    "to_png",
    "to_svg",
    "top_image_rows",
    "truncation_panels",
    "unit_strips",
]
