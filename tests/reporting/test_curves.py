"""Training curves from event files, against what was written into them."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from sparse_ae.reporting.curves import read_curves
from sparse_ae.run.directory import Run


def _write(folder: Path, suffix: str, points: dict[int, float]) -> None:
    writer = SummaryWriter(str(folder), filename_suffix=suffix)
    for step, value in points.items():
        writer.add_scalar("train/loss", value, step)
    writer.close()


def test_a_resumed_run_has_two_files_and_one_curve(tmp_path: Path) -> None:
    _write(tmp_path, ".1", {10: 4.0, 20: 3.0, 30: 2.0})
    _write(tmp_path, ".2", {20: 2.5, 30: 1.5, 40: 1.0})
    curve = read_curves(Run(tmp_path), ["train/loss", "val/mse"])
    assert curve.keys() == {"train/loss"}
    assert curve["train/loss"].step.tolist() == [10, 20, 30, 40]
    assert curve["train/loss"].value.tolist() == [4.0, 2.5, 1.5, 1.0]


@pytest.mark.parametrize("cut", [0, 100, 150])
def test_a_file_that_is_still_being_written(tmp_path: Path, cut: int) -> None:
    _write(tmp_path, "", dict.fromkeys(range(10), 1.0))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:cut])
    curves = read_curves(Run(tmp_path), ["train/loss"])
    assert all(0 < len(curve.step) < 10 for curve in curves.values())


def test_no_files(tmp_path: Path) -> None:
    assert read_curves(Run(tmp_path), ["train/loss"]) == {}
