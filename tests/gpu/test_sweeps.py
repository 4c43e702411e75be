"""Sweeps on GPUs: several jobs on one, packs, and what CUDA_VISIBLE_DEVICES may say."""

import os
from pathlib import Path

import pytest
import torch

from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from tests.gpu.conftest import RUNS, WEIGHTS
from tests.helpers import Cli
from tests.processes import command
from tests.scenarios.sweeps import runs

pytestmark = pytest.mark.gpu

SWEEP = ["-m", *RUNS, f"sparsity.coefficient={','.join(map(str, WEIGHTS))}"]


def by_weight(folder: Path) -> dict[float, Run]:
    """The runs of a sweep by their sparsity weight."""
    return {float(name.split("-w")[1].split("-")[0]): run for name, run in runs(folder).items()}


def test_jobs_per_gpu(cli: Cli, tmp_path: Path, device: str, on_device: list[str], alone: dict[float, Run]) -> None:
    """Two at a time on a GPU end as each alone, to the last bit."""
    outcome = cli("sparse-ae-train", *SWEEP, *on_device, "hydra.launcher.jobs_per_gpu=2")
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    assert ("on GPU" in outcome.out) == (device == "cuda")
    found = by_weight(tmp_path)
    assert found.keys() == alone.keys()
    for weight, run in found.items():
        assert run.weights.read_bytes() == alone[weight].weights.read_bytes()
        assert run.metrics == alone[weight].metrics


def test_pack(cli: Cli, tmp_path: Path, on_device: list[str], alone: dict[float, Run]) -> None:
    outcome = cli("sparse-ae-train", *SWEEP, *on_device, "hydra.launcher.pack=4", "hydra.launcher.n_jobs=1")
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    found = by_weight(tmp_path)
    assert found.keys() == alone.keys()
    for weight, run in found.items():
        assert (run.read_state(), run.status.packed) == ("finished", len(WEIGHTS))
        metrics = {name: value for name, value in alone[weight].metrics.items() if value is not None}
        assert {name: run.metrics[name] for name in metrics} == pytest.approx(metrics, rel=1e-3, abs=1e-5)


def uuid() -> str:
    """The first GPU by its identifier."""
    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


@pytest.mark.parametrize("visible", ["", "-1", "0,0", "0", "uuid"])
def test_visible_devices(tmp_path: Path, visible: str, request: pytest.FixtureRequest) -> None:
    """Real sweeps train on the GPU that is named, else on the CPU: to CUDA a GPU that is named twice is none."""
    is_there = visible in ("0", "uuid")
    if is_there:
        request.getfixturevalue("cuda")
    name = uuid() if visible == "uuid" else visible
    process = command(tmp_path, *SWEEP[:-1], "seed=1", env={**os.environ, "CUDA_VISIBLE_DEVICES": name})
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert (f"on GPU {name}" in out) == is_there
    (run,) = runs(tmp_path).values()
    assert run.read_state() == "finished"
    assert len(read_checkpoint(run.last_checkpoint)["callbacks"]["ResumeState"]["random"]["cuda"]) == int(is_there)
