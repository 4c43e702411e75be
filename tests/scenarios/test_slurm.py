"""A sweep on a real Slurm, where there is one: one node with two cores is enough."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sparse_ae.run.directory import Run
from tests.events import logged
from tests.helpers import Cli
from tests.processes import command, wait_until
from tests.scenarios.sweeps import LONG, training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
        reason="there is no Slurm here",
    ),
]

SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=4"]


def job_ids(folder: Path) -> list[str]:
    """Slurm's names of the sweep's jobs."""
    return sorted(p.name for p in (folder / ".submitit").glob("*_*") if p.is_dir())


@pytest.mark.parametrize("signals", [["SIGUSR2"], ["SIGTERM", "SIGUSR2"]], ids=["time limit", "preemption"])
def test_resume_preempted_job(tmp_path: Path, cli: Cli, signals: list[str]) -> None:
    """The signals as Slurm sends them, to every process of the job."""
    process = command(tmp_path, "-m", *LONG, *SLURM, "seed=1,2")
    folder = tmp_path / "outputs" / "default"
    wait_until(lambda: training(tmp_path), seconds=120)
    run = training(tmp_path)[0]
    task = sorted(p.name for p in (folder / ".submitit").glob("[0-9]*_*"))[run.status.seed - 1]
    for number in signals:
        subprocess.run(["scancel", "--signal", number, task], check=True)
        time.sleep(1)
    wait_until(lambda: run.status.state == "interrupted")
    assert run.status.error == "SIGTERM"
    out, err = process.communicate(timeout=400)  # Slurm waits two minutes before it starts a job again
    assert process.returncode == 0, err
    assert "2 of 2 runs are finished" in out
    assert run.status.attempts == 2
    alone = Run(tmp_path / "alone")
    assert cli("sparse-ae-train", *LONG, f"seed={run.status.seed}", "hydra.run.dir=alone").code == 0
    assert run.weights.read_bytes() == alone.weights.read_bytes()
    assert logged(run.path) == logged(alone.path)
