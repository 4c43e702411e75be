"""Rows on disk and in host memory on their way to the device, through pinned memory."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_ae.data import Arrays
from sparse_ae.data.loader import ResidentLoader
from sparse_ae.data.order import EpochSampler
from tests.gpu.conftest import RUNS
from tests.helpers import train_run

pytestmark = pytest.mark.gpu

Tier = Literal["device", "host", "disk"]
TIERS: tuple[Tier, ...] = ("device", "host", "disk")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 4000 rows of 64 values."""
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(4000, 64)).astype(np.float32))
    return path


def batches(rows: Path, device: str, storage: Tier) -> list[Tensor]:
    """Batches of two epochs, on the device; eight windows an epoch."""
    data = Arrays(path=str(rows), storage=storage, device=device, window_gb=1e-4, batch_size=100)
    loader, found = data.train_dataloader(), []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for batch in loader:
            pinned = storage != "device" and device == "cuda"
            assert batch.x.is_pinned() == pinned
            assert batch.x.device.type == (device if storage == "device" else "cpu")
            found.append(batch.to(device).x)
    return found


@pytest.mark.parametrize("storage", ["host", "disk"])
def test_batches_are_those_of_rows_on_the_device(rows: Path, device: str, storage: Tier) -> None:
    ours, theirs = (batches(rows, device, tier) for tier in (storage, "device"))
    assert len(ours) == len(theirs) == 2 * 32
    for one, other in zip(ours, theirs, strict=True):
        assert one.device == other.device
        assert torch.equal(one, other)


@pytest.mark.usefixtures("cuda")
def test_pinned_batches() -> None:
    rows, sampler = torch.rand(10, 3), EpochSampler(10, seed=0, shuffle=True)
    pinned = list(ResidentLoader(rows, sampler, 4, pin=True))
    assert all(batch.x.is_pinned() for batch in pinned)
    for batch, plain in zip(pinned, ResidentLoader(rows, sampler, 4), strict=True):
        assert torch.equal(batch.to("cuda").x.cpu(), plain.x)


def test_storage_does_not_change_training(tmp_path: Path, rows: Path, on_device: list[str]) -> None:
    own = ["data=arrays", f"data.path={rows}", "data.window_gb=1e-4", "model=linear"]
    runs = [train_run(tmp_path / tier, *RUNS, *on_device, *own, f"data.storage={tier}") for tier in TIERS]
    assert len({run.weights.read_bytes() for run in runs}) == 1
