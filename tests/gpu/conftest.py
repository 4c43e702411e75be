"""The device of the tests marked gpu, and runs on it that several of them share."""

import os

# As trainer.deterministic=true sets it, but before any test makes a product: CUDA reads it once in a process.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparse_ae.run.directory import Run
from tests.helpers import train_run

WEIGHTS = (0.001, 0.01, 0.1, 1.0)
"""Sparsity weights of runs that differ in nothing else."""
RUNS = [
    "sparsity=l1",
    "model.latent_dim=32",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=20",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "trainer.deterministic=true",
    "visuals.every_n_epochs=100",
    "analysis=[]",
    "threads=1",
]


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> str:
    """``cuda``, or ``cpu`` in a rehearsal."""
    return pytestconfig.getoption("device") or "cuda"


@pytest.fixture
def cuda(device: str, request: pytest.FixtureRequest) -> None:
    """Skip what says nothing on a CPU."""
    if device != "cuda":
        pytest.skip(f"{request.node.name}: only on a GPU")


@pytest.fixture(scope="session")
def on_device(device: str) -> list[str]:
    """Overrides that train on the device."""
    return [f"trainer.accelerator={device}"]


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, data_root: Path, on_device: list[str]) -> dict[float, Run]:
    """Finished runs by their sparsity weight, each trained by itself."""
    folder = tmp_path_factory.mktemp("alone")
    return {w: train_run(folder / str(w), *RUNS, *on_device, f"sparsity.coefficient={w}") for w in WEIGHTS}


@pytest.fixture(autouse=True)
def _restores_precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
