"""The figures of a report, from the runs that are finished; the curves also from the others."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from sparse_ae.plotting.curves import Curves, curve_panels
from sparse_ae.plotting.fronts import Front, front_panels, non_dominated
from sparse_ae.plotting.style import to_png
from sparse_ae.plotting.sweeps import Panel, sweep_panels
from sparse_ae.reporting.collect import Entry, Sweep
from sparse_ae.reporting.columns import (
    COEFFICIENT,
    METHOD,
    SEED,
    TARGET,
    TARGET_MEASURE,
    TARGET_VALUE,
    UNITS,
    as_number,
    group_name,
)
from sparse_ae.reporting.console import TIMES
from sparse_ae.reporting.curves import Curve, read_curves
from sparse_ae.reporting.front import knee

_DPI = 180
_CURVES = {"train/loss": "training loss (penalty included)", "val/mse": "validation MSE (per pixel)"}
_MSE = "test MSE (per pixel)"
_L0 = "L0 (codes != 0 per sample)"
_ACTIVE = "active units per sample"
_APART = 2.0
"""Times that differ by less are a machine's own ups and downs."""


class Drawing(NamedTuple):
    """One figure, or why there is none."""

    name: str
    """Its file's name, without ending."""
    title: str
    caption: str
    """What it shows, or what there is too little of to draw it."""
    png: bytes | None


def draw(sweep: Sweep) -> list[Drawing]:
    """Every figure of the report."""
    runs = sweep.finished
    if not runs:
        return []
    group = [group_name(run.config, sweep.columns, COEFFICIENT) for run in runs]
    return [
        _weights(runs, group),
        _targets(runs, sweep.columns),
        _fronts(runs),
        _times(runs),
        _units(runs, sweep.columns),
        _curves([run for run in sweep.entries if run.config]),
    ]


def _weights(runs: Sequence[Entry], group: Sequence[str]) -> Drawing:
    title = "Sparsity weight"
    weight = _weight(runs)
    own = ~np.isnan(weight)
    if len(np.unique(weight[own])) < 2:
        return Drawing("weights", title, "Not drawn: it takes finished runs of two different sparsity weights.", None)
    panels = [
        Panel(_MSE, _metric(runs, "test/mse"), log=True),
        Panel(_L0, _metric(runs, "test/l0"), log=True),
        Panel(_ACTIVE, _active(runs), log=True),
    ]
    drawn = [run for run, has in zip(runs, own, strict=True) if has]
    figure = sweep_panels(
        weight[own],
        [panel._replace(values=panel.values[own]) for panel in panels],
        _methods(drawn),
        [name for name, has in zip(group, own, strict=True) if has],
        xlabel="sparsity weight",
        title="What the sparsity weight costs and what it buys",
    )
    caption = "Lines join means over seeds, faint points are single runs. " if _repeated(runs) else ""
    caption += (
        "A unit is active where its code exceeds the threshold; a sigmoid code is never 0, so its L0 is always N."
    )
    if not own.all():
        others = sorted({method for method, has in zip(_methods(runs), own, strict=True) if not has})
        caption += f" Without a weight of their own, and so not here: {', '.join(others)}."
    return Drawing("weights", title, caption, _png(figure))


def _targets(runs: Sequence[Entry], columns: Sequence[str]) -> Drawing:
    title = "At equal sparsity"
    target = _config(runs, TARGET_VALUE)
    own = [run for run, has in zip(runs, ~np.isnan(target), strict=True) if has]
    measures = {str(run.config[TARGET_MEASURE]) for run in own}
    if len(np.unique(target[~np.isnan(target)])) < 2 or len(measures) > 1:
        return Drawing("targets", title, "Not drawn: it takes finished runs of two values of one target.", None)
    measure = measures.pop()
    panels = [
        Panel("test FVU", _metric(own, "test/fvu"), log=True),
        Panel(f"{measure} reached / wanted", _metric(own, f"test/{measure}") / _config(own, TARGET_VALUE), log=True),
        Panel("dead units (never != 0)", _metric(own, "test/dead_units")),
    ]
    figure = sweep_panels(
        _config(own, TARGET_VALUE),
        panels,
        _methods(own),
        [group_name(run.config, columns, COEFFICIENT, TARGET_VALUE) for run in own],
        xlabel=f"wanted {measure}",
        title="What methods cost at the same sparsity",
    )
    return Drawing("targets", title, "Methods compare where the second panel is at 1.", _png(figure))


def _fronts(runs: Sequence[Entry]) -> Drawing:
    title = "Reconstruction against sparsity"
    mse = _metric(runs, "test/mse")
    if len(runs) < 2:
        return Drawing("fronts", title, "Not drawn: it takes two finished runs.", None)
    names = [run.name for run in runs]
    fronts = [_front(label, x, mse, names) for label, x in ((_L0, _metric(runs, "test/l0")), (_ACTIVE, _active(runs)))]
    figure = front_panels(
        mse, fronts, _methods(runs), ylabel=_MSE, title="Which runs no other beats in both: towards the lower left"
    )
    caption = "A run is dominated, and faded, if another is as good in both measures and better in one. The knee is the"
    caption += " run on the front farthest below the chord between its ends on these axes; a front without one bends"
    caption += " nowhere towards the lower left."
    return Drawing("fronts", title, caption, _png(figure))


def _times(runs: Sequence[Entry]) -> Drawing:
    title = "Reconstruction against time"
    times = {time.meaning: _array(run.times.get(time.name) for run in runs) for time in TIMES if time.brief}
    times = {label: x for label, x in times.items() if np.any(x > 0)}
    if not any(np.nanmax(x) > _APART * np.nanmin(x) for x in times.values()):
        return Drawing("times", title, "Not drawn: it takes a finished run that took twice as long as another.", None)
    mse = _metric(runs, "test/mse")
    fronts = [Front(label, x, non_dominated(x, mse), None, "") for label, x in times.items()]
    figure = front_panels(mse, fronts, _methods(runs), ylabel=_MSE, title="What accuracy takes: towards the lower left")
    caption = (
        "However sparse a run's codes are. Fitting includes validations, a first download of the data and what resumed "
        "runs did before; an image is encoded among 1,000. Times compare where runs had as many threads and as quiet a "
        "machine."
    )
    return Drawing("times", title, caption, _png(figure))


def _front(label: str, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> Front:
    best = non_dominated(x, y)
    on_axes = np.flatnonzero(best & (x > 0) & (y > 0))
    found = knee(x[on_axes], y[on_axes])
    if found is None:
        return Front(label, x, best, None, "")
    run = int(on_axes[found])
    return Front(label, x, best, run, f"knee: {names[run]}")


def _units(runs: Sequence[Entry], columns: Sequence[str]) -> Drawing:
    title = "Number of units"
    units = _config(runs, UNITS)
    if len(np.unique(units[~np.isnan(units)])) < 2:
        return Drawing("units", title, "Not drawn: it takes finished runs of two different model.latent_dim.", None)
    panels = [
        Panel("dead units (never != 0)", _metric(runs, "test/dead_units")),
        Panel("inactive units (on < 1 % of samples)", _metric(runs, "test/inactive_units")),
    ]
    group = [group_name(run.config, columns, UNITS) for run in runs]
    figure = sweep_panels(
        units, panels, _methods(runs), group, xlabel="units (model.latent_dim)", title="How many units go unused"
    )
    return Drawing("units", title, "Counts over the whole test split.", _png(figure))


def _curves(runs: Sequence[Entry]) -> Drawing:
    title = "Training"
    read = [_read_curves(run) for run in runs]
    drawn = [(run, curves) for run, curves in zip(runs, read, strict=True) if curves]
    if not drawn:
        return Drawing("curves", title, "Not drawn: no run has readable TensorBoard files with scalars.", None)
    panels = [
        Curves(label, [(curves[tag].step, curves[tag].value) if tag in curves else None for _, curves in drawn])
        for tag, label in _CURVES.items()
        if any(tag in curves for _, curves in drawn)
    ]
    entries = [run for run, _ in drawn]
    figure = curve_panels(panels, _methods(entries), _weight(entries), title="Training, run by run")
    caption = (
        "Each line is a run; the darker, the larger its sparsity weight. Runs that are not finished are drawn too."
    )
    return Drawing("curves", title, caption, _png(figure))


def _read_curves(run: Entry) -> dict[str, Curve]:
    try:
        return read_curves(run.run, list(_CURVES))
    except Exception:  # whatever is wrong with one run's files, the others have curves
        return {}


def _png(figure: Figure) -> bytes:
    return to_png(figure, _DPI, palette=True)


def _repeated(runs: Sequence[Entry]) -> bool:
    return len({run.config.get(SEED) for run in runs}) > 1


def _methods(runs: Sequence[Entry]) -> list[str]:
    return [str(run.config.get(METHOD, "unknown")) for run in runs]


def _config(runs: Sequence[Entry], key: str) -> np.ndarray:
    """Numbers ``(R,)`` from the configurations; NaN where there is none."""
    return _array(as_number(run.config.get(key)) for run in runs)


def _weight(runs: Sequence[Entry]) -> np.ndarray:
    """The sparsity weights ``(R,)``; NaN where there is none, or where a target steers it."""
    weight: np.ndarray = np.where([TARGET in run.config for run in runs], np.nan, _config(runs, COEFFICIENT))
    return weight


def _metric(runs: Sequence[Entry], name: str) -> np.ndarray:
    return _array(run.metrics.get(name) for run in runs)


def _active(runs: Sequence[Entry]) -> np.ndarray:
    shares, units = _metric(runs, "test/population_sparsity"), _config(runs, UNITS)
    active: np.ndarray = shares * units
    return active


def _array(values: Iterable[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
