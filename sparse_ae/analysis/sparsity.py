"""How sparse the codes are, for each sample over the units and for each unit over the samples, and how far the answer
depends on what counts as active.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.functional import (
    ALWAYS_ON_ABOVE,
    INACTIVE_BELOW,
    always_on_units,
    hoyer,
    inactive_units,
    lifetime_sparsity,
    population_sparsity,
    treves_rolls,
    vinje_gallant,
)
from sparse_ae.plotting import (
    Activity,
    Histogram,
    class_panels,
    lifetime_panels,
    sparseness_panels,
    sparsity_panels,
    threshold_panels,
)

_Array = npt.NDArray[Any]
_BINS = 100
_MEASURES = {"hoyer": "Hoyer", "treves_rolls": "Treves-Rolls a (low is sparse)", "vinje_gallant": "Vinje-Gallant"}


def overview(subject: Subject) -> Figure:
    """Population and lifetime sparsity at the sample's threshold, and the distribution of all codes."""
    z, threshold = subject.z, subject.sample.threshold
    above = _above(z, threshold)
    extremes = _extremes(above, int((z == 0).all(dim=0).sum()))
    title = f"{len(z):,} samples, {z.shape[1]} units: {extremes}"
    return sparsity_panels(above, _codes(z), threshold, title=title)


def analyse(subject: Subject) -> Result:
    """Population sparsity per sample, lifetime sparsity per unit, and the distribution of all codes.

    A unit is active where |code| > threshold; ``l0``, and what ends in ``_nonzero``,
    counts codes != 0. Numbers:

    - ``samples``, ``units``, ``threshold``, ``code_min``, ``code_max``.
    - ``population_sparsity``: the share of units active in a sample, mean over samples. ``lifetime_sparsity``: the
      share of samples that activate a unit, mean over units, which is the same; ``lifetime_sparsity_median`` is not.
    - ``l0``: codes != 0 per sample, mean.
    - ``inactive_units`` (active on < 1 % of the samples) and ``always_on_units`` (on > 99 %), each also ``_nonzero``;
      ``dead_units`` (code never != 0); ``all_zero_samples`` (no code != 0).
    - ``hoyer``, ``treves_rolls``, ``vinje_gallant``: sparseness of a sample's codes, mean over samples; ending in
      ``_lifetime``, of a unit's codes, mean over units. All-zero samples and dead units are 0/0 and left out; None if
      nothing is left. Sparse is a low Treves-Rolls a, and a high one of the others.
    - ``classes``: for each class its ``samples``, ``population_sparsity`` and ``l0``, None without samples.
    - ``thresholds``: ``population_sparsity``, ``inactive_units`` and ``always_on_units`` at each ``threshold``.

    Arrays: what these are means of; NaN where undefined. ``label (B,)``, the samples' classes.
    """
    z, threshold = subject.z, subject.sample.threshold
    above, nonzero = _above(z, threshold), _activity(z, 0, "code != 0")
    population, lifetime = sparseness(z), sparseness(z.T)
    curves = threshold_curves(z, np.union1d(np.geomspace(1e-4, max(1.0, float(z.abs().max())), 25), [0, threshold]))
    dead, zero = int((nonzero.lifetime == 0).sum()), int((nonzero.population == 0).sum())
    by_class = _by_class(subject.label, above, nonzero)
    numbers = {
        "samples": len(z),
        "units": z.shape[1],
        "threshold": threshold,
        "code_min": float(z.min()),
        "code_max": float(z.max()),
        "population_sparsity": float(above.population.mean()),
        "lifetime_sparsity": float(above.lifetime.mean()),
        "lifetime_sparsity_median": float(np.median(above.lifetime)),
        "l0": float(nonzero.population.mean() * z.shape[1]),
        **_extreme_units(above),
        **{f"{name}_nonzero": count for name, count in _extreme_units(nonzero).items()},
        "dead_units": dead,
        "all_zero_samples": zero,
        **{name: _mean(values) for name, values in population.items()},
        **{f"{name}_lifetime": _mean(values) for name, values in lifetime.items()},
        "classes": by_class,
        "thresholds": {name: values.tolist() for name, values in curves.items()},
    }
    size, marks = f"{len(z):,} samples, {z.shape[1]} units", (INACTIVE_BELOW, ALWAYS_ON_ABOVE)
    marked = "dashed: 1 % of samples, below it inactive, and 99 %, above it always on"
    undefined = f"undefined for {zero} all-zero samples, {dead} dead units"
    figures = {
        "sparsity": overview(subject),
        "nonzero": sparsity_panels(nonzero, _magnitudes(z), threshold, title=f"{size}: {_extremes(nonzero, dead)}"),
        "lifetime": lifetime_panels([above, nonzero], marks=marks, title=f"Lifetime sparsity, {size}\n{marked}"),
        "classes": class_panels(
            [above, nonzero],
            subject.label.numpy(),
            len(by_class),
            title=f"Population sparsity by class, {size}",
        ),
        "threshold": threshold_panels(curves, threshold, title=f"Sparsity as the threshold changes, {size}"),
        "sparseness": sparseness_panels(population, lifetime, _MEASURES, title=f"Sparseness, {size} ({undefined})"),
    }
    arrays = {
        "population_sparsity": above.population,
        "lifetime_sparsity": above.lifetime,
        "population_sparsity_nonzero": nonzero.population,
        "lifetime_sparsity_nonzero": nonzero.lifetime,
        **population,
        **{f"{name}_lifetime": values for name, values in lifetime.items()},
    }
    small = {name: values.astype(np.float32) for name, values in arrays.items()}
    return Result(numbers, figures, small | {"label": subject.label.numpy()})


def sparseness(z: Tensor) -> dict[str, _Array]:
    """Three measures of the sparseness of each row of ``z (B, N)``, ``(B,)`` each; NaN where they are 0/0."""
    a = treves_rolls(z)
    measures = {"hoyer": hoyer(z), "treves_rolls": a, "vinje_gallant": vinje_gallant(a, z.shape[1])}
    return {name: values.numpy() for name, values in measures.items()}


def threshold_curves(z: Tensor, thresholds: _Array) -> dict[str, _Array]:
    """Mean population sparsity, inactive and always-on units, ``(T,)`` each, over ``thresholds (T,)``, which ascend.

    One histogram of codes for each unit gives all of them: lifetime_ji = mean_b [|z_bi| > t_j].
    """
    bins = len(thresholds) + 1
    index = torch.bucketize(z.abs(), torch.from_numpy(thresholds).to(z), out_int32=True)  # t_(j-1) < |z| <= t_j
    index += bins * torch.arange(z.shape[1], dtype=torch.int32)
    counts = torch.bincount(index.flatten(), minlength=bins * z.shape[1]).reshape(-1, bins)
    lifetime = counts.flip(1).cumsum(1).flip(1)[:, 1:].T / float(len(z))
    return {
        "threshold": thresholds,
        "population_sparsity": lifetime.mean(dim=1).numpy(),
        "inactive_units": inactive_units(lifetime).numpy(),
        "always_on_units": always_on_units(lifetime).numpy(),
    }


def _above(z: Tensor, threshold: float) -> Activity:
    return _activity(z, threshold, f"{'|code|' if (z < 0).any() else 'code'} > {threshold:g}")


def _activity(z: Tensor, threshold: float, name: str) -> Activity:
    return Activity(name, population_sparsity(z, threshold).numpy(), lifetime_sparsity(z, threshold).numpy())


def _extreme_units(activity: Activity) -> dict[str, int]:
    lifetime = torch.from_numpy(activity.lifetime)
    return {"inactive_units": int(inactive_units(lifetime)), "always_on_units": int(always_on_units(lifetime))}


def _extremes(activity: Activity, dead: int) -> str:
    inactive, always_on = _extreme_units(activity).values()
    return f"{inactive} inactive (active on < 1 % of samples), {dead} dead, {always_on} always on (> 99 %)"


def _codes(z: Tensor) -> Histogram:
    return Histogram(*np.histogram(z.numpy(), bins=_BINS), xlabel="code", log=False)


def _magnitudes(z: Tensor) -> Histogram:
    counts, edges = np.histogram(z[z != 0].abs().log10().numpy(), bins=_BINS)
    return Histogram(counts, 10**edges, xlabel="|code| of codes != 0, log", log=True)


def _by_class(label: Tensor, above: Activity, nonzero: Activity) -> dict[str, dict[str, Any]]:
    masks = {str(c): (label == c).numpy() for c in range(int(label.max()) + 1)}
    l0 = nonzero.population * len(nonzero.lifetime)
    return {
        name: {"samples": int(own.sum()), "population_sparsity": _mean(above.population[own]), "l0": _mean(l0[own])}
        for name, own in masks.items()
    }


def _mean(values: _Array) -> float | None:
    """The mean of what is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
