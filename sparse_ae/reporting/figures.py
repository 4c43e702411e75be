"""Figures of a report: measures of the finished runs against each other, and training curves of all runs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparse_ae.plotting.curves import Curves, curve_panels
from sparse_ae.plotting.fronts import Front, front_panels, non_dominated
from sparse_ae.plotting.style import Array, to_png
from sparse_ae.plotting.sweeps import Panel, sweep_panels
from sparse_ae.reporting.columns import (
    COEFFICIENT,
    SEED,
    TARGET,
    TARGET_MEASURE,
    TARGET_VALUE,
    UNITS,
    as_number,
    group_name,
)
from sparse_ae.reporting.curves import Curve, read_curves
from sparse_ae.reporting.entries import Entry, Sweep
from sparse_ae.reporting.front import knee
from sparse_ae.reporting.labels import METRICS, TIMES

_DPI = 180
_CURVES = {"train/loss": "training loss (penalty included)", "val/mse": "validation MSE (per value)"}
_NUMBERS = [COEFFICIENT, UNITS, TARGET_VALUE, *(f"test/{m.name}" for m in METRICS), *(time.name for time in TIMES)]
_MSE = "test MSE (per value)"
_L0 = "L0 (codes != 0 per sample)"
_ACTIVE = "active units per sample"
_DEAD = "dead units (never != 0)"
_APART = 2.0
"""Ratio below which two times may differ by the state of the machine alone."""


class Drawing(NamedTuple):
    """One figure, or the reason why it is not drawn."""

    name: str
    """Name of its file, without ending."""
    title: str
    """Title on the page."""
    caption: str
    """Explanation of the figure, or of what it would take to draw it."""
    png: bytes | None
    """Content of the file; None if it is not drawn."""


def draw(sweep: Sweep) -> list[Drawing]:
    """Draw every figure of the report; none without a finished run."""
    if not sweep.finished:
        return []
    runs = _table(sweep.finished)
    return [
        _weights(runs, sweep.columns),
        _targets(runs, sweep.columns),
        _fronts(runs),
        _times(runs),
        _units(runs, sweep.columns),
        _curves([run for run in sweep.entries if run.config]),
    ]


def _table(runs: Sequence[Entry]) -> pd.DataFrame:
    """Return a row per run: its name, method, config, and ``_NUMBERS``, NaN where it has none.

    ``weight`` is the sparsity weight unless a target controls it, ``active`` the mean number of active units.
    """
    values = [{**run.config, **run.metrics, **run.times} for run in runs]
    table = pd.DataFrame([{key: as_number(own.get(key)) for key in _NUMBERS} for own in values], dtype=float)
    table["weight"] = table[COEFFICIENT].mask([TARGET in run.config for run in runs])
    table["active"] = table["test/population_sparsity"] * table[UNITS]
    return table.assign(
        name=[run.name for run in runs], method=[run.method for run in runs], config=[run.config for run in runs]
    )


def _weights(runs: pd.DataFrame, columns: Sequence[str]) -> Drawing:
    title = "Sparsity weight"
    own = runs[runs["weight"].notna()]
    if own["weight"].nunique() < 2:
        return Drawing("weights", title, "Not drawn: it takes finished runs of two different sparsity weights.", None)
    figure = sweep_panels(
        _array(own, "weight"),
        [
            Panel(label, _array(own, key), log=True)
            for label, key in ((_MSE, "test/mse"), (_L0, "test/l0"), (_ACTIVE, "active"))
        ],
        list(own["method"]),
        _groups(own, columns, COEFFICIENT),
        xlabel="sparsity weight",
        title="What the sparsity weight costs and what it buys",
    )
    repeated = len({run.get(SEED) for run in runs["config"]}) > 1
    caption = "Lines join means over seeds, faint points are single runs. " if repeated else ""
    caption += "A unit is active if its code exceeds the threshold. A sigmoid code is never 0, so its L0 is always N."
    if len(own) < len(runs):
        others = sorted(set(runs["method"][runs["weight"].isna()]))
        caption += f" Left out, without a weight of their own: {', '.join(others)}."
    return Drawing("weights", title, caption, _png(figure))


def _targets(runs: pd.DataFrame, columns: Sequence[str]) -> Drawing:
    title = "At equal sparsity"
    own = runs[runs[TARGET_VALUE].notna()]
    measures = {str(run[TARGET_MEASURE]) for run in own["config"]}
    if own[TARGET_VALUE].nunique() < 2 or len(measures) > 1:
        return Drawing("targets", title, "Not drawn: it takes finished runs of two values of one target.", None)
    measure = measures.pop()
    wanted = _array(own, TARGET_VALUE)
    panels = [
        Panel("test FVU", _array(own, "test/fvu"), log=True),
        Panel(f"{measure} reached / wanted", _array(own, f"test/{measure}") / wanted, log=True),
        Panel(_DEAD, _array(own, "test/dead_units")),
    ]
    figure = sweep_panels(
        wanted,
        panels,
        list(own["method"]),
        _groups(own, columns, COEFFICIENT, TARGET_VALUE),
        xlabel=f"wanted {measure}",
        title="What methods cost at the same sparsity",
    )
    return Drawing("targets", title, "Methods compare where the second panel is at 1.", _png(figure))


def _fronts(runs: pd.DataFrame) -> Drawing:
    title = "Reconstruction against sparsity"
    if len(runs) < 2:
        return Drawing("fronts", title, "Not drawn: it takes two finished runs.", None)
    mse = _array(runs, "test/mse")
    fronts = [
        _front(label, _array(runs, key), mse, list(runs["name"]))
        for label, key in ((_L0, "test/l0"), (_ACTIVE, "active"))
    ]
    heading = "Which runs no other beats in both: towards the lower left"
    figure = front_panels(mse, fronts, list(runs["method"]), ylabel=_MSE, title=heading)
    caption = (
        "A run is dominated, and faded, if another is as good in both measures and better in one. The knee is the run "
        "on the front farthest below the chord between its ends on these axes. A front that does not bend towards the "
        "lower left has no knee."
    )
    return Drawing("fronts", title, caption, _png(figure))


def _front(label: str, x: Array, y: Array, names: Sequence[str]) -> Front:
    best = non_dominated(x, y)
    on_axes = np.flatnonzero(best & (x > 0) & (y > 0))
    found = knee(x[on_axes], y[on_axes])
    if found is None:
        return Front(label, x, best, None, "")
    run = int(on_axes[found])
    return Front(label, x, best, run, f"knee: {names[run]}")


def _times(runs: pd.DataFrame) -> Drawing:
    title = "Reconstruction against time"
    times = {time.meaning: runs[time.name] for time in TIMES if time.brief and (runs[time.name] > 0).any()}
    if not any(seconds.max() > _APART * seconds.min() for seconds in times.values()):
        return Drawing("times", title, "Not drawn: it takes a finished run that took twice as long as another.", None)
    mse = _array(runs, "test/mse")
    arrays = {label: seconds.to_numpy() for label, seconds in times.items()}
    fronts = [Front(label, x, non_dominated(x, mse), None, "") for label, x in arrays.items()]
    heading = "What accuracy takes: towards the lower left"
    figure = front_panels(mse, fronts, list(runs["method"]), ylabel=_MSE, title=heading)
    caption = (
        "Sparsity is not considered here. The time to fit includes validations, a first download of the data and "
        "earlier attempts of resumed runs; a sample is encoded in a batch of 1,000. Times compare if runs had the same "
        "number of threads on an equally idle machine."
    )
    return Drawing("times", title, caption, _png(figure))


def _units(runs: pd.DataFrame, columns: Sequence[str]) -> Drawing:
    title = "Number of units"
    if runs[UNITS].nunique() < 2:
        return Drawing("units", title, "Not drawn: it takes finished runs of two different model.latent_dim.", None)
    figure = sweep_panels(
        _array(runs, UNITS),
        [
            Panel(_DEAD, _array(runs, "test/dead_units")),
            Panel("inactive units (on < 1 % of samples)", _array(runs, "test/inactive_units")),
        ],
        list(runs["method"]),
        _groups(runs, columns, UNITS),
        xlabel="units (model.latent_dim)",
        title="How many units go unused",
    )
    return Drawing("units", title, "Counts over the whole test split.", _png(figure))


def _curves(entries: Sequence[Entry]) -> Drawing:
    title = "Training"
    read = [(entry, curves) for entry in entries if (curves := _read_curves(entry))]
    if not read:
        return Drawing(
            "curves", title, "Not drawn: no run has readable TensorBoard files with scalars, or a metrics.csv.", None
        )
    panels = [
        Curves(
            label,
            [(curves[tag].step.astype(float), curves[tag].value) if tag in curves else None for _, curves in read],
        )
        for tag, label in _CURVES.items()
        if any(tag in curves for _, curves in read)
    ]
    runs = _table([entry for entry, _ in read])
    figure = curve_panels(panels, list(runs["method"]), _array(runs, "weight"), title="Training, run by run")
    caption = "Each line is a run, darker for a larger sparsity weight. Runs that are not finished are drawn too."
    return Drawing("curves", title, caption, _png(figure))


def _read_curves(entry: Entry) -> dict[str, Curve]:
    try:
        return read_curves(entry.run, list(_CURVES))
    except Exception:  # TensorBoard has no error of its own for a damaged file, and the other runs have curves
        return {}


def _array(runs: pd.DataFrame, column: str) -> Array:
    return np.asarray(runs[column], dtype=float)


def _groups(runs: pd.DataFrame, columns: Sequence[str], *besides: str) -> list[str]:
    return [group_name(config, columns, *besides) for config in runs["config"]]


def _png(figure: Figure) -> bytes:
    return to_png(figure, _DPI, palette=True)
