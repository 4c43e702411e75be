"""``trainer=ddp`` on every GPU that is there, be it one."""

from pathlib import Path

import pytest

from sparse_ae.run.directory import Run
from tests.helpers import SMALL
from tests.processes import command
from tests.scenarios.test_distributed import assert_metrics_are_of_whole_split

pytestmark = pytest.mark.gpu


def test_all_devices(tmp_path: Path, device: str, on_device: list[str]) -> None:
    devices = "auto" if device == "cuda" else "2"
    options = ["trainer=ddp", *on_device, f"trainer.devices={devices}", "hydra.run.dir=run", *SMALL, "sparsity=l1"]
    process = command(tmp_path, *options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert out.count("epoch 1/2") == 1
    run = Run(tmp_path / "run")
    assert run.read_state() == "finished"
    assert_metrics_are_of_whole_split(run, rel=1e-4)
