"""Figures: what is in them, what is labelled, and what is left out."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from sparse_ae.plotting.curves import Curves, curve_panels
from sparse_ae.plotting.fronts import Front, front_panels
from sparse_ae.plotting.style import log_positions, to_png
from sparse_ae.plotting.sweeps import Panel, sweep_panels
from sparse_ae.reporting.collect import collect
from sparse_ae.reporting.figures import draw


def _check(figure: Figure, panels: int) -> None:
    assert len(figure.axes) == panels
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.lines
    assert figure.get_suptitle()
    assert to_png(figure).startswith(b"\x89PNG")


def _legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_lines_join_means_over_repetitions_and_a_weight_of_zero_stands_apart() -> None:
    x = np.array([0, 0.1, 0.1, 1.0])
    y = np.array([1, 2, 4, 8.0])
    figure = sweep_panels(x, [Panel("y", y)], ["l1"] * 4, [""] * 4, xlabel="weight", title="t")
    _check(figure, panels=1)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "l1"]
    assert list(line.get_xdata()) == [0.1, 1]
    assert list(line.get_ydata()) == [3, 8]
    assert figure.axes[0].get_xscale() == "log"
    ticks = dict(zip(figure.axes[0].get_xticks(), figure.axes[0].get_xticklabels(), strict=True))
    (zero,) = [place for place, text in ticks.items() if text.get_text() == "0"]
    assert 0 < zero < 0.1
    assert any(list(line.get_xdata()) == [zero] for line in figure.axes[0].lines)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 128], {10: "0", 128: "128"}),
        ([0, 128, 130], {10: "0", 128: "128"}),
        ([0, 130, 160], {10: "0", 130: "130", 160: "160"}),
        ([0, 1250], {100: "0", 1250: r"$1.25{\cdot}10^{3}$"}),
        ([0, 45, 55], {10: "0", 50: "50"}),
        ([10, 100], {10: "10", 20: "20", 50: "50", 100: "100"}),
    ],
)
def test_ticks_of_a_logarithmic_axis(values: list[float], ticks: dict[float, str]) -> None:
    axes = Figure().subplots()
    at = log_positions(axes, "y", np.array(values, dtype=float))
    axes.plot(at, at)
    assert {
        tick: text.get_text() for tick, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    } == ticks


def test_a_short_logarithmic_axis_shows_two_ticks_or_more() -> None:
    axes = Figure().subplots()
    axes.plot([1, 2], log_positions(axes, "y", np.array([0.115, 0.281])))
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2


def test_a_mean_over_repetitions_of_which_one_is_zero_is_theirs_and_not_that_of_their_places() -> None:
    x, y = np.array([1, 1, 10, 10.0]), np.array([0, 4, 0, 0.0])
    figure = sweep_panels(x, [Panel("y", y, log=True)], ["l1"] * 4, [""] * 4, xlabel="weight", title="t")
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "l1"]
    mean, zero = line.get_ydata()
    assert mean == 2
    assert 0 < zero < 4


def test_a_legend_of_many_groups_names_the_methods_alone() -> None:
    method, group = zip(*itertools.product(("kl", "l1"), "abcdefgh"), strict=True)
    figure = sweep_panels(np.arange(16.0), [Panel("y", np.ones(16))], method, group, xlabel="x", title="t")
    assert _legend(figure) == ["kl", "l1"]


def test_fronts_join_what_is_best_and_name_the_knee() -> None:
    x, y = np.array([1, 10, 100, 50, 0, np.nan]), np.array([9, 2, 1, 5, 10, 1.0])
    best = np.array([True, True, True, False, True, False])
    fronts = [Front("L0", x, best, 1, "knee: b"), Front("active", x, best, None, "")]
    figure = front_panels(y, fronts, ["l1", "kl", "l1", "l1", "l1", "kl"], ylabel="MSE", title="t")
    _check(figure, panels=2)
    first, second = figure.axes
    assert [text.get_text() for text in first.texts] == ["knee: b"]
    assert [text.get_text() for text in second.texts] == []
    (line,) = [line for line in first.lines if line.get_label() == "front"]
    assert list(line.get_xdata()) == [1, 10, 100]


@pytest.mark.parametrize(("n", "entries"), [(12, 12), (30, 2)])
def test_a_legend_of_many_curves_names_the_least_and_the_largest_weight(n: int, entries: int) -> None:
    steps = np.arange(20.0)
    lines = [(steps, np.exp(-steps) + i + 1) for i in range(n)]
    weight = np.arange(n) / 10
    figure = curve_panels([Curves("loss", lines), Curves("mse", [None] * n)], ["l1"] * n, weight, title="t")
    assert len(_legend(figure)) == entries
    assert {"l1, weight 0", f"l1, weight {(n - 1) / 10:g}"} <= set(_legend(figure))
    shades = {line.get_color() for line in figure.axes[0].lines}
    assert len(shades) == n


def test_figures_of_a_sweep(finished_sweep: Path) -> None:
    sweep = collect([finished_sweep])
    equal = dict.fromkeys(sweep.entries[0].times, 1.0)
    equally_long = sweep._replace(entries=[entry._replace(times=equal) for entry in sweep.entries])
    drawings = {drawing.name: drawing for drawing in draw(equally_long)}
    assert {name: drawing.png is not None for name, drawing in drawings.items()} == {
        "weights": True,
        "targets": False,
        "fronts": True,
        "times": False,
        "units": False,
        "curves": True,
    }
    assert drawings["units"].caption.startswith("Not drawn: ")
    for drawing in drawings.values():
        assert drawing.png is None or 5_000 < len(drawing.png) < 200_000


def test_a_time_that_no_run_has_is_no_panel(finished_sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def watched(*args: Any, **options: Any) -> Figure:
        drawn.append(front_panels(*args, **options))
        return drawn[-1]

    monkeypatch.setattr("sparse_ae.reporting.figures.front_panels", watched)
    sweep = collect([finished_sweep])
    for fit, panels in ((1.0, 2), (None, 1)):
        times = [{"fit_seconds": fit, "encode_microseconds": 10.0**i} for i in range(len(sweep.entries))]
        draw(sweep._replace(entries=[e._replace(times=t) for e, t in zip(sweep.entries, times, strict=True)]))
        _check(drawn[-1], panels)


def test_runs_with_targets_are_compared_at_equal_sparsity(finished_sweep: Path) -> None:
    sweep = collect([finished_sweep])
    target = {"target": "l0", "target.measure": "l0"}
    entries = [e._replace(config=e.config | target | {"target.value": 8 << i % 2}) for i, e in enumerate(sweep.entries)]
    drawings = {drawing.name: drawing for drawing in draw(sweep._replace(entries=entries))}
    assert drawings["targets"].png is not None
    assert drawings["weights"].png is None  # what is steered is no choice
    at_one_value = [e._replace(config=e.config | {"target.value": 8}) for e in entries]
    assert next(d for d in draw(sweep._replace(entries=at_one_value)) if d.name == "targets").png is None


def test_one_run_alone_has_curves_only(finished_sweep: Path) -> None:
    first = next(path for path in sorted(finished_sweep.iterdir()) if path.is_dir())
    assert [drawing.name for drawing in draw(collect([first])) if drawing.png] == ["curves"]
