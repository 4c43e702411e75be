"""What each unit is worth: how much the squared error grows where it is left out, and how few units would do."""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveInt
from scipy.stats import spearmanr

from sparse_ae.analysis.ablation import AffineAblation, ablate
from sparse_ae.analysis.base import Result, Subject
from sparse_ae.analysis.statistics import log_spaced, ratio, units_needed, variances
from sparse_ae.functional import lifetime_sparsity
from sparse_ae.plotting import feature_grid, importance_panels

_STEPS = 24
"""Points of a curve over the number of units."""
_KEPT, _GREEDY = "the most important kept", "the units chosen greedily kept"


def analyse(subject: Subject, *, n_atoms: PositiveInt) -> Result:
    """A unit's importance is the increase in MSE where it alone is set to 0. Beside it, the MSE where the same m units
    are kept in all samples, or removed: the most important ones, or the greedily chosen, each of which leaves the
    lowest MSE beside those before it.

    Exact, over all samples, for affine decoders. For others importance is over a part of the samples where these have
    more than 80 codes (``ablate``), and which unit comes next greedily is an approximation
    (``DecodedAblation.greedy_order``); what the chosen ones leave is not.

    Numbers: ``units``, ``dead_units`` (code never != 0), ``affine_decoder``, ``samples`` (that importance is over),
    ``harmful_units`` (without it the error is lower), ``top_tenth_share`` (what of the sum of all positive importance
    the most important tenth of the units has), ``lifetime_correlation`` (Spearman's, of importance and lifetime
    sparsity, over units not dead), ``units_for_90_percent`` (how many of the most important units explain 90 % of the
    variance that all explain), the same as ``greedy_units_for_90_percent``, and the ``most_important`` units.
    Arrays: ``importance`` and ``lifetime`` ``(N,)``; ``kept (K,)``, numbers of units, and ``mse (curves, K)``
    with so many; ``curves``, their names; ``greedy_order (N,)``, units.
    """
    ablation = ablate(subject)
    importance = ablation.importance
    order = importance.argsort(descending=True, stable=True)
    kept = log_spaced(len(order), _STEPS)
    orders = {_KEPT: order, _GREEDY: ablation.greedy_order()}
    mse = {name: ablation.kept(own, kept) for name, own in orders.items()}
    curves = mse | {"the most important removed": ablation.kept(order.flip(0), [len(order) - m for m in kept])}

    variance = variances(subject, ablation.samples).mean() / subject.x.shape[1]
    needed = {
        name: units_needed(kept, mse[name], variance, 0.9, partial(ablation.kept, own)) for name, own in orders.items()
    }
    lifetime = lifetime_sparsity(subject.z, subject.sample.threshold)
    used = (subject.z != 0).any(dim=0)
    gains = importance[order].clamp_min(0)
    correlation = spearman(importance[used].numpy(), lifetime[used].numpy())
    top = order[used[order]][:n_atoms]
    numbers = {
        "units": len(order),
        "dead_units": int((~used).sum()),
        "affine_decoder": isinstance(ablation, AffineAblation),
        "samples": len(ablation.samples),
        "harmful_units": int((importance < 0).sum()),
        "top_tenth_share": ratio(gains[: -(-len(gains) // 10)].sum(), gains.sum()),
        "lifetime_correlation": correlation,
        "units_for_90_percent": needed[_KEPT],
        "greedy_units_for_90_percent": needed[_GREEDY],
        "most_important": [{"unit": unit, "importance": float(importance[unit])} for unit in top.tolist()],
    }
    dead = f"{numbers['dead_units']} dead and not shown, " if numbers["dead_units"] else ""
    panels = importance_panels(
        importance.numpy(),
        lifetime.numpy(),
        used.numpy(),
        np.array(kept),
        {name: errors.numpy() for name, errors in curves.items()},
        correlation=correlation,
        title=f"What each unit is worth: {len(order):,} units, {dead}over {len(ablation.samples):,} test images",
    )
    figures = {"importance": panels}
    if len(top):
        figures["important_atoms"] = feature_grid(
            subject.images(subject.directions[top]),
            [f"{unit}: {importance[unit]:.1e}" for unit in top.tolist()],
            title=f"What the {len(top)} most important units add, and the MSE that each saves",
            signed=True,
        )
    arrays = {
        "importance": importance.numpy(),
        "lifetime": lifetime.numpy(),
        "kept": np.array(kept),
        "curves": np.array(list(curves)),
        "mse": torch.stack(list(curves.values())).numpy(),
        "greedy_order": orders[_GREEDY].numpy(),
    }
    return Result(numbers, figures, arrays)


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float | None:
    """Spearman's rank correlation of two ``(n,)``, ties at their mean rank; None where one of them is constant."""
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)
