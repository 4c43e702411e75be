"""Importance of units: increase in the squared error without one of them, and the number of units needed."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import PositiveInt
from scipy.stats import spearmanr

from sparse_ae.analysis import contexts
from sparse_ae.analysis.ablation import AffineAblation, ablate
from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.statistics import evenly_spread, log_spaced, ratio, units_needed, variances
from sparse_ae.plotting.curves import curves_over_units
from sparse_ae.plotting.mosaic import feature_grid
from sparse_ae.plotting.style import BLUE, Array, finish, log_positions, note

_STEPS = 24
"""Points of a curve over the number of units."""
_MOST_DRAWN = 4096
"""Largest number of units drawn."""
_KEPT, _GREEDY = "the most important kept", "the units chosen greedily kept"
_HARMFUL = "#CC79A7"


class Numbers(NamedTuple):
    """Importance over all units."""

    units: int
    """Number of units."""
    dead_units: int
    """Number of units whose code is never != 0."""
    affine_decoder: bool
    """True if the decoder is affine, so that importance is exact."""
    samples: int
    """Number of samples that importance is computed on."""
    harmful_units: Annotated[int, Label("harmful units (MSE falls without)")]
    """Number of units without which the error is lower."""
    top_tenth_share: Annotated[float | None, Label("importance of the top tenth of units (share)")]
    """Share of the sum of all positive importance that the most important tenth of the units has."""
    lifetime_correlation: Annotated[float | None, Label("rank correlation of importance and use")]
    """Spearman's correlation of importance and lifetime sparsity, over units not dead."""
    units_for_90_percent: Annotated[int | None, Label("most important units for 90 % of what all explain")]
    """Number of the most important units that explain 90 % of the variance that all explain."""
    greedy_units_for_90_percent: Annotated[int | None, Label("greedily chosen units for 90 % of what all explain")]
    """Number of greedily chosen units that explain 90 % of the variance that all explain."""
    most_important: list[dict[str, Any]]
    """The most important units: ``unit`` and ``importance``."""


def analyse(subject: Subject, *, n_atoms: PositiveInt = 25) -> Result:
    """Importance of a unit: the increase in MSE if it alone is set to 0. ``n_atoms`` of the most important are shown.

    Beside it stands the MSE with m units kept, or removed, in all samples: the most important ones, or greedily chosen
    ones, each of which leaves the lowest MSE beside those before it.

    Exact, over all samples, for affine decoders of up to 4,096 units. For others importance is over a part of the
    samples where these have many codes (``ablate``). Which unit comes next greedily is then an approximation
    (``DecodedAblation.greedy_order``); the errors that the chosen ones leave are exact.

    Arrays: ``importance`` and ``lifetime`` ``(N,)``; ``kept (K,)``, numbers of units, and ``mse (curves, K)`` with
    that many; ``curves``, their names; ``greedy_order (N,)``, units.
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
    lifetime, used = subject.lifetime, ~subject.dead
    gains = importance[order].clamp_min(0)
    top = order[used[order]][:n_atoms]
    numbers = Numbers(
        units=len(order),
        dead_units=int((~used).sum()),
        affine_decoder=isinstance(ablation, AffineAblation),
        samples=len(ablation.samples),
        harmful_units=int((importance < 0).sum()),
        top_tenth_share=ratio(gains[: -(-len(gains) // 10)].sum(), gains.sum()),
        lifetime_correlation=spearman(importance[used].numpy(), lifetime[used].numpy()),
        units_for_90_percent=needed[_KEPT],
        greedy_units_for_90_percent=needed[_GREEDY],
        most_important=[{"unit": unit, "importance": float(importance[unit])} for unit in top.tolist()],
    )
    arrays = {
        "importance": importance.numpy(),
        "lifetime": lifetime.numpy(),
        "kept": np.array(kept),
        "curves": np.array(list(curves)),
        "mse": torch.stack(list(curves.values())).numpy(),
        "greedy_order": orders[_GREEDY].numpy(),
    }
    panels = _panels(
        numbers,
        arrays["importance"],
        arrays["lifetime"],
        used.numpy(),
        dict(zip(curves, arrays["mse"], strict=True)),
        noun=subject.noun,
    )
    figures, text = {"importance": panels}, subject.sample.text
    if text is not None:
        shown = top[: contexts.UNITS]
        which = f"the {len(shown)} most important units"
        figures["contexts"] = contexts.draw(subject, text, shown, contexts.CONTEXTS, which=which)
    elif len(top):
        figures["important_atoms"] = feature_grid(
            subject.images(subject.directions[top]),
            [f"{unit}: {importance[unit]:.1e}" for unit in top.tolist()],
            title=f"What the {len(top)} most important units add, and the MSE that each saves",
            view=subject.view,
            signed=True,
        )
    return Result.of(numbers, figures, arrays)


def spearman(a: Array, b: Array) -> float | None:
    """Spearman's rank correlation of two ``(n,)``, ties at their mean rank; None where one of them is constant."""
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)


def _panels(
    numbers: Numbers,
    importance: Array,
    lifetime: Array,
    used: npt.NDArray[np.bool_],
    curves: Mapping[str, Array],
    *,
    noun: str,
) -> Figure:
    """Three panels: importance sorted, importance against lifetime sparsity, and the MSE curves over units kept.

    ``importance, lifetime, used (N,)``; units not ``used`` are dead: counted, not drawn. Of more than 4,096 others,
    4,096 are drawn, evenly spread over the ranks.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    order = np.argsort(-importance[used], kind="stable")
    rank = evenly_spread(len(order), _MOST_DRAWN).numpy()
    value, share = importance[used][order[rank]], lifetime[used][order[rank]]
    _magnitudes(left, rank + 1.0, value)
    left.set(title="Sorted", xlabel="rank among the units", ylabel="importance (|increase in MSE|)")
    spread = share.max(initial=0) > 10 * share.min(initial=1)  # less than a decade has hardly a tick on a log axis
    _magnitudes(middle, log_positions(middle, "x", share) if spread else share, value)
    if not spread:
        middle.xaxis.set_major_locator(ticker.MaxNLocator("auto", steps=[1, 2, 5, 10]))  # no long ticks such as 0.025
    correlation = numbers.lifetime_correlation
    rho = "undefined" if correlation is None else f"{correlation:.2f}"
    middle.set(title=f"Against use: rank correlation {rho}", ylabel="importance (|increase in MSE|)")
    middle.set_xlabel("lifetime sparsity (share of samples active)")
    curves_over_units(right, np.array(log_spaced(numbers.units, _STEPS)), curves)
    right.set(title="Many units at once", xlabel="units kept or removed, in all samples", ylabel="MSE")
    dead = f"{numbers.dead_units} dead and not shown, " if numbers.dead_units else ""
    title = f"What each unit is worth: {numbers.units:,} units, {dead}over {numbers.samples:,} test {noun}s"
    finish(figure, title, columns=3)
    return figure


def _magnitudes(axes: Axes, x: Array, value: Array) -> None:
    """Draw |value| on a logarithmic axis, with values below 0 in another colour."""
    if len(value) == 0:
        note(axes, "all units are dead")
        return
    y = log_positions(axes, "y", np.abs(value))
    for part, colour, label in (
        (value >= 0, BLUE, "needed: MSE grows without the unit"),
        (value < 0, _HARMFUL, "harmful: MSE falls without it"),
    ):
        if part.any():
            axes.plot(x[part], y[part], "o", color=colour, markersize=3.5, markeredgewidth=0, alpha=0.7, label=label)
