"""Analyses of a whole folder, side by side."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from sparse_ae.plotting import dot_panels
from tests.conftest import Cli


def test_all_runs_of_a_folder_are_analysed_and_compared(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    outcome = cli("sparse-ae-analyse", "run=sweep", "analysis=[reconstructions]", "analysis.reconstructions.n_images=3")
    assert outcome.code == 0, outcome.err
    with (sweep / "analysis.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [run.name for run in runs]
    assert [row["sparsity.coefficient"] for row in rows] == ["0.001", "0.1", "0.001", "0.1"]
    for run, row in zip(runs, rows, strict=True):
        result = json.loads((run / "analysis/reconstructions/result.json").read_text())
        assert len(result["mse"]) == 3
        assert float(row["reconstructions/mean"]) == result["mean"]
    assert (sweep / "analysis" / "reconstructions.png").read_bytes().startswith(b"\x89PNG")
    assert "sweep/analysis.csv" in outcome.out


def test_results_for_other_thresholds_are_compared_among_themselves(cli: Cli, sweep: Path, runs: list[Path]) -> None:
    outcome = cli("sparse-ae-analyse", "run=sweep", "analysis=[sparsity]", "active_threshold=0.5")
    assert outcome.code == 0, outcome.err
    with (sweep / "analysis.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sparsity-0.5/threshold"] for row in rows] == ["0.5"] * 4
    assert (sweep / "analysis" / "sparsity-0.5.png").exists()


def test_a_folder_without_a_finished_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = cli("sparse-ae-analyse", "run=empty")
    assert outcome.code != 0
    assert "run=empty: holds no finished run" in outcome.err


def _rows(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.filterwarnings("error")
def test_a_row_per_group_with_its_mean() -> None:
    values = {"a": np.array([1, 3, 5.0]), "b": np.array([np.nan, np.nan, 2]), "c": np.arange(3.0), "d": np.ones(3)}
    figure = dot_panels(values, ["kl", "kl", "l1"], ["n 64", "n 64", ""], title="t")
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c", "d"]
    assert _rows(figure.axes[0]) == ["kl, n 64", "l1"]
    mean, dots, single = figure.axes[0].lines
    assert list(mean.get_xdata()) == [2, 2]
    assert list(dots.get_xdata()) == [1, 3]
    assert list(single.get_xdata()) == [5]
