"""Mixed precision and the precision of float32 products, against float32 throughout."""

from pathlib import Path

import pytest
import torch

from sparse_ae.run.directory import Run
from tests.gpu.conftest import RUNS
from tests.helpers import train_run

pytestmark = pytest.mark.gpu

CLOSE = 0.03
"""Relative difference of a metric that fewer bits may make."""


@pytest.fixture
def whole(alone: dict[float, Run]) -> Run:
    """Run in float32."""
    return alone[0.01]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(
    tmp_path: Path, device: str, on_device: list[str], whole: Run, precision: str, request: pytest.FixtureRequest
) -> None:
    if precision == "16-mixed":
        request.getfixturevalue("cuda")  # Lightning takes bfloat16 on a CPU
    half = train_run(tmp_path / "run", *RUNS, *on_device, f"trainer.precision={precision}")
    for name in ("val/mse", "test/mse", "train/recon"):
        assert half.metrics[name] == pytest.approx(whole.metrics[name], rel=CLOSE), name
    assert half.weights.read_bytes() != whole.weights.read_bytes()


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_precision_of_products(tmp_path: Path, device: str, on_device: list[str], whole: Run, precision: str) -> None:
    run = train_run(tmp_path / "run", *RUNS, *on_device, f"matmul_precision={precision}")
    for name in ("val/mse", "test/mse", "train/recon"):
        assert run.metrics[name] == pytest.approx(whole.metrics[name], rel=CLOSE), name
    if device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):  # which have TF32
        assert run.weights.read_bytes() != whole.weights.read_bytes()


def test_runs_are_the_same_again(tmp_path: Path, on_device: list[str], whole: Run) -> None:
    """After runs of other precisions in one process, to the last bit."""
    again = train_run(tmp_path / "run", *RUNS, *on_device)
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    assert again.metrics == whole.metrics
