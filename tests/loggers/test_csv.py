"""The table of the CSV logger, read back by pandas."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from sparse_ae.loggers.csv import CSV
from sparse_ae.run.directory import Run


def test_a_row_per_step_and_a_column_per_metric(tmp_path: Path) -> None:
    logger = CSV(run=Run(tmp_path))
    logger.begin({"sparsity": "l1", "model.hidden_sizes": [256], "trainer.profiler": None})
    logger.log_metrics({"train/loss": 0.5}, 0)
    logger.log_metrics({"train/loss": torch.tensor(0.25), "train/dead_units": 3}, 10)
    logger.log_metrics({"val/mse": float("nan")}, 10)
    logger.log_metrics({"a": 1.0}, 20)
    logger.finish()
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(table) == ["step", "a", "train/dead_units", "train/loss", "val/mse"]
    assert table["step"].tolist() == [0, 10, 20]
    assert table["train/loss"].tolist() == pytest.approx([0.5, 0.25, float("nan")], nan_ok=True)
    assert table["train/dead_units"].dropna().tolist() == [3]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[2] == "10,,3,0.25,nan"
    options = yaml.safe_load((tmp_path / "hparams.yaml").read_text())
    assert options == {"sparsity": "l1", "model.hidden_sizes": [256], "trainer.profiler": None}


def _log(logger: CSV, first: int, last: int) -> None:
    for step in range(first, last):
        logger.log_metrics({"train/loss": 1 / (1 + step)}, step)
        if step % 3 == 2:
            logger.log_metrics({"val/mse": 1 / (2 + step)}, step)


@pytest.mark.parametrize("saved", [0, 1, 3, 5])
@pytest.mark.parametrize("tail", ["", "7", "70,0.5,\n", '1,"0.'])
def test_a_resumed_run_has_each_step_once(tmp_path: Path, saved: int, tail: str) -> None:
    """Rows after the checkpoint go, columns that they brought too; so does a line that a kill cut off."""
    whole, half = Run(tmp_path / "whole"), Run(tmp_path / "half")
    for run in (whole, half):
        run.path.mkdir()
    for run in (whole, half):
        logger = CSV(run=run)
        logger.begin({})
        _log(logger, 0, saved)
        state = logger.state_dict()
        _log(logger, saved, 8)
        if run is whole:
            logger.finish()
    with half.metrics_table.open("a") as file:
        file.write(tail)
    again = CSV(run=half)
    again.resume(state)
    _log(again, saved, 8)
    again.finish()
    assert half.metrics_table.read_text() == whole.metrics_table.read_text()


def test_a_run_that_fails_has_its_last_row(tmp_path: Path) -> None:
    logger = CSV(run=Run(tmp_path))
    logger.begin({})
    logger.log_metrics({"train/loss": 0.5}, 5)
    logger.finalize("success")
    assert not (tmp_path / "metrics.csv").exists()
    logger.finalize("failed")
    assert (tmp_path / "metrics.csv").read_text() == "step,train/loss\n5,0.5\n"
