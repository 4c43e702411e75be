"""Sweeps in processes of their own: stopped and killed from outside, two at once, on every launcher."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from sparse_ae.run.directory import Run
from tests.events import logged
from tests.helpers import Cli
from tests.processes import command, wait_until
from tests.scenarios.sweeps import LONG, SMALL, Sweep, runs, training


def test_failing_launcher(sweep: Sweep) -> None:
    out = sweep(*SMALL, "seed=1,2", "hydra/launcher=slurm", code=1)  # which is not there
    table = " ".join(out[out.index("not finished") :].replace("│", " ").split())
    assert table.count("the launcher failed: ") == 2
    assert "srun" in table


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["hydra/launcher=basic"], marks=pytest.mark.slow),
        ["hydra/launcher=local", "hydra.launcher.n_jobs=2"],
        pytest.param(["hydra/launcher=slurm_local"], marks=pytest.mark.slow),
        pytest.param(["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=2"], marks=pytest.mark.slow),
    ],
    ids=["basic", "local", "slurm_local", "ray_cluster"],
)
def test_launcher(tmp_path: Path, sweep: Sweep, launcher: list[str]) -> None:
    out = sweep(*SMALL, *launcher, "seed=1,2")
    assert "2 of 2 runs are finished" in out
    assert out.count("finished  ") == 2
    trained = runs(tmp_path).values()
    assert [run.read_state() for run in trained] == ["finished"] * 2
    assert len({run.status.pid for run in trained}) == 2  # each in a process of its own
    log = next(iter(trained)).log.read_text()
    assert "epoch 2/2" in log


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [["hydra/launcher=slurm_local"], ["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=2"]],
    ids=["slurm_local", "ray_cluster"],
)
def test_launcher_of_a_cluster(tmp_path: Path, sweep: Sweep, launcher: list[str]) -> None:
    """Each job in a process of its own; a pack is one job."""
    out = sweep(*SMALL, *launcher, "hydra.launcher.pack=2", "seed=1,2,3")
    assert "3 runs in 1 pack (l1 w0.01 n16: 2) and 1 alone (l1-w0.01-n16-s1-" in out
    assert "3 of 3 runs are finished" in out
    assert out.count("finished  ") == 3
    statuses = [run.status for run in runs(tmp_path).values()]
    assert sorted(status.packed for status in statuses) == [1, 2, 2]
    assert len({status.pid for status in statuses}) == 2
    for run in runs(tmp_path).values():
        assert {path.name for path in (run.path / ".hydra").iterdir()} >= {"config.yaml", "overrides.yaml"}
        assert "epoch 2/2" in run.log.read_text()


@pytest.mark.slow
def test_two_sweeps_at_once(tmp_path: Path) -> None:
    arguments = [*SMALL, "seed=1,2,3,4", "hydra.launcher.n_jobs=2"]
    both = [command(tmp_path, "-m", *arguments) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, ""), out
        assert "4 of 4 runs are finished" in out
    assert [run.status.attempts for run in runs(tmp_path).values()] == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL],
    ids=["Ctrl-C", "SIGTERM to the group", "SIGUSR1 to the group", "kill -9"],
)
def test_resume_stopped_sweep(tmp_path: Path, cli: Cli, sweep: Sweep, number: signal.Signals) -> None:
    arguments = [*LONG, "seed=1,2,3", "hydra.launcher.n_jobs=2"]
    process = command(tmp_path, "-m", *arguments)
    folder = tmp_path / "outputs" / "default"
    wait_until(lambda: training(tmp_path))
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)  # a terminal, and what stops whole jobs, tells every process of the group
    out, err = process.communicate(timeout=300)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "stopping" in err
        assert "retry:" in out
        assert {run.status.error for run in runs(tmp_path).values()} == {"SIGTERM"}
    wait_until(lambda: not any(run.is_locked for run in runs(tmp_path).values()))
    stopped = runs(tmp_path)
    assert {run.read_state() for run in stopped.values()} == {"interrupted"}
    assert not list(folder.glob(".stop-*")) or number == signal.SIGKILL

    sweep(*arguments)
    assert cli("sparse-ae-train", *LONG, "seed=1", "hydra.run.dir=alone").code == 0
    went_on = runs(tmp_path)["l1-w0.01-n16-s1"]
    assert went_on.status.attempts == 2
    assert went_on.weights.read_bytes() == Run(tmp_path / "alone").weights.read_bytes()
    assert went_on.metrics == Run(tmp_path / "alone").metrics


@pytest.mark.slow
def test_second_ctrl_c(tmp_path: Path) -> None:
    process = command(tmp_path, "-m", *LONG, "seed=1,2,3", "hydra.launcher.n_jobs=2", "rerun=all")
    wait_until(lambda: training(tmp_path))
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert {run.read_state() for run in runs(tmp_path).values()} == {"interrupted"}


@pytest.mark.slow
def test_ctrl_c_with_jobs_in_queue(tmp_path: Path) -> None:
    """Ray on one core runs one job; the other waits, and does not begin after all."""
    ray = ["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=1"]
    process = command(tmp_path, "-m", *LONG, "trainer.max_epochs=50", *ray, "seed=1,2", "rerun=all")
    wait_until(lambda: training(tmp_path))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "did not start" in out
    assert "rerun=all" not in out
    assert [run.read_state() for run in runs(tmp_path).values()] == ["interrupted"]


@pytest.mark.slow
def test_resume_preempted_jobs(tmp_path: Path, cli: Cli, sweep: Sweep) -> None:
    """As Slurm does it: submitit's signal reaches a job's process, which saves, ends, and is started again."""
    arguments = [*LONG, "hydra.launcher.pack=2", "seed=1,2,3"]
    # rerun=all is no reason to start over in the same sweep
    process = command(tmp_path, "-m", *arguments, "hydra/launcher=slurm_local", "rerun=all")
    preempted: set[int] = set()

    def preempt_what_trains() -> bool:
        """Signal each job once, in its first attempt: one may have ended before the other begins."""
        pids = {status.pid for run in training(tmp_path) if (status := run.status).attempts == 1}
        for pid in pids - preempted:
            above = psutil.Process(pid).parents()
            next(p for p in above if "submitit.core._submit" in p.cmdline()).send_signal(signal.SIGUSR2)
            preempted.add(pid)
        return len(preempted) == 2

    wait_until(preempt_what_trains)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), out
    assert "3 runs in 1 pack (l1 w0.01 n16: 2) and 1 alone" in out
    assert sorted(run.status.packed for run in runs(tmp_path).values()) == [1, 2, 2]
    sweep(*arguments, "hydra.launcher.n_jobs=1", "hydra.sweep.dir=other")
    for run in runs(tmp_path).values():
        assert run.status.attempts == 2
        assert f"{run.path.name}  interrupted  SIGTERM" in out
        assert out.count(f"{run.path.name}  finished") == 1
        never_stopped = Run(tmp_path / "other" / run.path.name)
        assert run.status.packed == never_stopped.status.packed
        assert run.weights.read_bytes() == never_stopped.weights.read_bytes()
        assert logged(run.path) == logged(never_stopped.path)
    name, run = next((name, run) for name, run in runs(tmp_path).items() if run.status.packed == 1)
    alone = Run(tmp_path / "alone")
    assert cli("sparse-ae-train", *LONG, f"seed={name[-1]}", "hydra.run.dir=alone").code == 0
    assert run.weights.read_bytes() == alone.weights.read_bytes()
    assert logged(run.path) == logged(alone.path)
