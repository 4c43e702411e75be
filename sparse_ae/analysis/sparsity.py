"""How sparse the codes are: over units for each sample, over samples for each unit, and as a distribution."""

import numpy as np

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.functional import dead_units, inactive_units, lifetime_sparsity, population_sparsity
from sparse_ae.plotting import sparsity_panels

_BINS = 100


def analyse(subject: Subject) -> Result:
    """Population sparsity per sample, lifetime sparsity per unit, and the histogram of all codes.

    Numbers: ``samples``, ``units``, ``threshold``, ``population_sparsity`` and ``lifetime_sparsity`` (means),
    ``inactive_units`` (active on under 1 % of the samples), ``dead_units`` (code never != 0), ``code_max``.
    """
    z, sample = subject.z, subject.sample
    population, lifetime = population_sparsity(z, sample.threshold), lifetime_sparsity(z, sample.threshold)
    counts, edges = np.histogram(z.numpy(), bins=_BINS)
    inactive, dead = int(inactive_units(lifetime)), int(dead_units((z != 0).sum(dim=0)))
    numbers = {
        "samples": len(z),
        "units": z.shape[1],
        "threshold": sample.threshold,
        "population_sparsity": float(population.mean()),
        "lifetime_sparsity": float(lifetime.mean()),
        "inactive_units": inactive,
        "dead_units": dead,
        "code_max": float(z.max()),
    }
    title = f"{len(z):,} samples, {z.shape[1]} units: {inactive} inactive (active on < 1 % of samples), {dead} dead"
    figure = sparsity_panels(
        population.numpy(), lifetime.numpy(), counts.astype(float), edges, threshold=sample.threshold, title=title
    )
    return Result(numbers, {"sparsity": figure})
