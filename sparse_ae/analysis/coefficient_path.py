"""Figures of the front that one run recorded while its coefficient rose."""

from collections.abc import Mapping, Sequence

import numpy as np

from sparse_ae.plotting.fronts import Front, front_panels, non_dominated
from sparse_ae.plotting.style import to_png
from sparse_ae.plotting.sweeps import Panel, sweep_panels


def path_figures(points: Sequence[Mapping[str, float]], method: str) -> dict[str, bytes]:
    """PNG files by name: error and sparsity over the coefficient, and error over sparsity.

    ``points`` has one mapping per validation, ``{"coefficient": ..., "val/mse": ..., "val/l0": ...}``.
    """
    coefficient, mse, l0, population = (
        np.array([point[name] for point in points], dtype=float)
        for name in ("coefficient", "val/mse", "val/l0", "val/population_sparsity")
    )
    names = [method] * len(points)
    panels = [
        Panel("validation MSE", mse, log=True),
        Panel("L0 (codes != 0 per sample)", l0, log=True),
        Panel("population sparsity", population, log=True),
    ]
    over_coefficient = sweep_panels(
        coefficient, panels, names, [""] * len(points), xlabel="coefficient", title="One run through all coefficients"
    )
    fronts = [
        Front(label, x, non_dominated(x, mse), None, "")
        for label, x in (("L0 (codes != 0 per sample)", l0), ("population sparsity", population))
        if len(np.unique(x)) > 1
    ]
    figures = {"path.png": to_png(over_coefficient)}
    if fronts:
        title = "Error against sparsity along the path"
        figures["front.png"] = to_png(front_panels(mse, fronts, names, ylabel="validation MSE", title=title))
    return figures
