"""Real sweeps: repeated, extended, with jobs that fail or are killed, two at once, on every launcher."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sparse_ae.runs.directory import Run
from tests.events import logged
from tests.helpers import Cli
from tests.processes import command, wait_until

SMALL = [
    "sparsity=l1",
    "model.latent_dim=16",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=10",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "analysis=[]",
]
LONG = [*SMALL, "trainer.max_epochs=8", "trainer.limit_train_batches=100", "data.batch_size=32"]


def runs(folder: Path) -> dict[str, Run]:
    """The runs of the default sweep by the part of the name before the hash."""
    paths = (p for p in (folder / "outputs" / "default").iterdir() if (p / ".lock").exists())
    return {p.name.rpartition("-")[0]: Run(p) for p in sorted(paths)}


Sweep = Callable[..., str]


@pytest.fixture
def sweep(cli: Cli) -> Sweep:
    """Run a whole sweep in ``tmp_path`` and give its output. Its jobs are processes of their own."""

    def run(*arguments: str, code: int = 0) -> str:
        outcome = cli("sparse-ae-train", "-m", *arguments)
        assert (outcome.code, outcome.err) == (code, ""), outcome.out
        return outcome.out

    return run


def test_a_repeated_sweep_trains_only_what_is_new(tmp_path: Path, sweep: Sweep) -> None:
    out = sweep(*SMALL, "sparsity.coefficient=1e-4,0.1", "seed=1")
    assert "2 runs, 2 to train" in out
    assert re.search(r"\d at a time, \d threads? each", out)
    assert re.search(r"\[2/2\] l1-w0\.(0001|1)-n16-s1-\w{8}  finished  \d+ s  MSE 0\.\d+  FVU ", out)
    first = runs(tmp_path)
    assert list(first) == ["l1-w0.0001-n16-s1", "l1-w0.1-n16-s1"]
    assert [run.read_state() for run in first.values()] == ["finished", "finished"]
    assert (first["l1-w0.1-n16-s1"].path / ".hydra" / "overrides.yaml").read_text().count("seed=1") == 1
    before = {name: run.status for name, run in first.items()}

    out = sweep(*SMALL, "sparsity.coefficient=0.1,1e-4,0.01", "seed=1")
    assert "3 runs, 1 to train" in out
    assert out.count("skipped") == 2
    assert {name: run.status for name, run in runs(tmp_path).items() if name in before} == before
    assert runs(tmp_path)["l1-w0.01-n16-s1"].state == "finished"

    out = sweep(*SMALL, "sparsity.coefficient=0.1", "seed=1", "rerun=all")
    assert "1 runs, 1 to train" in out
    assert runs(tmp_path)["l1-w0.1-n16-s1"].status.attempts == 2


def test_jobs_that_fail_leave_the_others_unharmed(tmp_path: Path, cli: Cli) -> None:
    """One diverges, one is killed, one has an impossible value; the fourth is fine."""
    linear = ["model=linear", "model.unit_norm=false", "trainer.log_every_n_steps=5"]
    arguments = ["-m", *LONG, *linear, "optimizer.lr=1e-3,1e-4,1e30,-1"]
    folder = tmp_path / "outputs" / "default"

    def states() -> list[str]:
        return sorted(Run(path).read_state() for path in folder.iterdir())

    def kill_one() -> None:
        wait_until(lambda: _victims(folder))
        os.kill(_victims(folder)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcome = cli("sparse-ae-train", *arguments)
    killer.join()
    assert outcome.code == 1
    assert "left out" in outcome.out
    table = " ".join(outcome.out[outcome.out.index("not finished") :].replace("│", " ").split())
    for text in ("killed by SIGKILL (out of memory?)", "at step", "bad override", "Invalid learning rate: -1"):
        assert text in table, table
    assert "retry: sparse-ae-train -m sparsity=l1" in table
    assert states() == ["failed", "finished", "interrupted"]

    outcome = cli("sparse-ae-train", *arguments, "rerun=none")
    assert outcome.code == 1  # what was left out still is
    assert states() == ["failed", "finished", "finished"]


def _victims(folder: Path) -> list[int]:
    """The processes of the job with the second learning rate, once it has trained for a while."""
    found = folder.glob("*/.hydra/overrides.yaml")
    jobs = [Run(path.parent.parent).status for path in found if "optimizer.lr=0.0001" in path.read_text()]
    return [status["pid"] for status in jobs if status.get("progress", 0) > 0]


def test_two_sweeps_at_once_train_each_run_once_and_both_end_well(tmp_path: Path) -> None:
    arguments = [*SMALL, "seed=1,2,3,4", "hydra.launcher.n_jobs=2", "threads=1"]
    both = [command(tmp_path, "-m", *arguments) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=180)
        assert (process.returncode, err) == (0, ""), out
        assert "4 of 4 runs are finished" in out
    assert [run.status.attempts for run in runs(tmp_path).values()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "SIGTERM to the group", "kill -9"]
)
def test_a_sweep_that_is_stopped_goes_on(tmp_path: Path, cli: Cli, sweep: Sweep, number: signal.Signals) -> None:
    arguments = [*LONG, "seed=1,2,3", "hydra.launcher.n_jobs=2", "threads=1"]
    process = command(tmp_path, "-m", *arguments)
    folder = tmp_path / "outputs" / "default"
    wait_until(lambda: folder.exists() and any(r.status.progress > 0 for r in runs(tmp_path).values()))
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)  # a terminal, and what stops whole jobs, tells every process of the group
    out, err = process.communicate(timeout=60)
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
    assert cli("sparse-ae-train", *LONG, "seed=1", "threads=1", "hydra.run.dir=alone").code == 0
    went_on = runs(tmp_path)["l1-w0.01-n16-s1"]
    assert went_on.status.attempts == 2
    assert went_on.weights.read_bytes() == Run(tmp_path / "alone").weights.read_bytes()
    assert went_on.metrics == Run(tmp_path / "alone").metrics


def test_a_second_ctrl_c_does_not_leave_jobs_that_have_not_heard_of_the_first(tmp_path: Path) -> None:
    process = command(tmp_path, "-m", *LONG, "seed=1,2,3", "hydra.launcher.n_jobs=2", "threads=1", "rerun=all")
    folder = tmp_path / "outputs" / "default"
    wait_until(lambda: folder.exists() and any(r.status.progress > 0 for r in runs(tmp_path).values()))
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert {run.read_state() for run in runs(tmp_path).values()} == {"interrupted"}


def test_ctrl_c_does_not_wait_for_jobs_in_a_queue(tmp_path: Path) -> None:
    """Ray on one core runs one job; the other waits, and does not begin after all."""
    ray = ["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=1"]
    process = command(tmp_path, "-m", *LONG, "trainer.max_epochs=50", *ray, "seed=1,2", "rerun=all")
    folder = tmp_path / "outputs" / "default"
    wait_until(lambda: folder.exists() and any(r.status.progress > 0 for r in runs(tmp_path).values()))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "did not start" in out
    assert "rerun=all" not in out
    assert [run.read_state() for run in runs(tmp_path).values()] == ["interrupted"]


def test_axes_that_make_no_other_run_are_told(tmp_path: Path, sweep: Sweep) -> None:
    out = sweep(*SMALL, "visuals.n_images=4,8")
    assert "1 runs, 1 to train" in out
    assert re.search(r"the same l1-w0.01-n16-s42-\w{8}  visuals.n_images=8 makes no other run", out)


def test_an_analysis_that_fails_is_no_success(tmp_path: Path, sweep: Sweep) -> None:
    sweep(*SMALL, "seed=1,2")
    first, second = runs(tmp_path).values()
    second.weights.write_bytes(b"damaged")
    out = sweep(*SMALL, "seed=1,2", "analysis=[overview]", code=1)
    assert "1 of 2 runs are finished" in out
    assert "has no analysis overview" in " ".join(out.replace("│", " ").split())
    assert first.has_analysis("overview")


def test_why_a_launcher_failed_is_in_the_table(sweep: Sweep) -> None:
    out = sweep(*SMALL, "seed=1,2", "hydra/launcher=slurm_local", "hydra.launcher.timeout_min=abc", code=1)
    table = " ".join(out[out.index("not finished") :].replace("│", " ").split())
    assert table.count("the launcher failed: ") == 2
    assert "abc" in table


@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=basic"],
        ["hydra/launcher=local", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=slurm_local"],
        ["hydra/launcher=ray_cluster", "+hydra.launcher.ray.init.num_cpus=2"],
    ],
    ids=["basic", "joblib", "submitit_local", "ray"],
)
def test_every_launcher_trains_four_jobs(tmp_path: Path, sweep: Sweep, launcher: list[str]) -> None:
    out = sweep(*SMALL, *launcher, "seed=1,2,3,4")
    assert "4 of 4 runs are finished" in out
    assert out.count("finished  ") == 4
    trained = runs(tmp_path).values()
    assert [run.read_state() for run in trained] == ["finished"] * 4
    assert len({run.status.pid for run in trained}) == 4  # each in a process of its own
    log = next(iter(trained)).log.read_text()
    assert "epoch 2/2" in log


def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path, cli: Cli) -> None:
    """As Slurm does it: submitit's signal reaches the job's process, which saves, ends, and is started again."""
    arguments = [*LONG, "threads=1", "rerun=all"]  # which is no reason to start over in the same sweep
    process = command(tmp_path, "-m", *arguments, "hydra/launcher=slurm_local", "seed=1,2")
    folder = tmp_path / "outputs" / "default"
    wait_until(lambda: any(run.status.progress > 0 for run in runs(tmp_path).values()) if folder.exists() else 0)
    name, run = next((name, run) for name, run in runs(tmp_path).items() if run.status.progress > 0)
    above = psutil.Process(run.status.pid).parents()
    next(p for p in above if "submitit.core._submit" in p.cmdline()).send_signal(signal.SIGUSR2)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, err) == (0, ""), out
    assert run.status.attempts == 2
    assert f"{run.path.name}  interrupted  SIGTERM" in out
    assert out.count(f"{run.path.name}  finished") == 1
    alone = Run(tmp_path / "alone")
    assert cli("sparse-ae-train", *arguments, f"seed={name[-1]}", "hydra.run.dir=alone").code == 0
    assert run.weights.read_bytes() == alone.weights.read_bytes()
    assert logged(run.path) == logged(alone.path)


def test_a_job_trains_on_one_device(tmp_path: Path, cli: Cli) -> None:
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    outcome = cli("sparse-ae-train", "-m", *SMALL, *ddp, "seed=1,2")
    expected = "sparse-ae-train: error: trainer.devices=2: a sweep trains each run on one device (allowed: 1)\n"
    assert (outcome.code, outcome.err) == (1, expected)
    assert list(tmp_path.iterdir()) == []


def test_each_of_several_experiments_brings_its_axes(tmp_path: Path, sweep: Sweep) -> None:
    small = [o for o in SMALL if not o.startswith("sparsity")]
    out = sweep(*small, "experiment=sparsity_weight_l1,sparsity_weight_kl", "sparsity.coefficient=0.1", "seed=1")
    assert out.startswith("outputs/sparsity_weight_l1, outputs/sparsity_weight_kl: 2 runs, 2 to train")
    assert "2 of 2 runs are finished" in out
    assert "sparse-ae-report outputs/sparsity_weight_l1 outputs/sparsity_weight_kl --into outputs\n" in out
    names = sorted(p.parent.name for p in (tmp_path / "outputs").glob("*/*/status.json"))
    assert [name.rpartition("-")[0] for name in names] == ["kl-w0.1-n16-s1", "l1-w0.1-n16-s1"]


def test_runs_land_where_they_were_planned(tmp_path: Path, sweep: Sweep) -> None:
    odd = ["hydra.sweep.dir='a b'", "hydra.sweep.subdir=seed${seed}/${hydra:job.override_dirname}"]
    out = sweep(*SMALL, *odd, "seed=1")
    assert "1 of 1 runs are finished" in out
    (status,) = (tmp_path / "a b" / "seed1").glob("*/status.json")
    assert "threads" not in status.parent.name
    assert "0 to train" in sweep(*SMALL, *odd, "seed=1")


def test_a_damaged_file_of_one_run_does_not_stop_the_others(tmp_path: Path, sweep: Sweep) -> None:
    sweep(*SMALL, "seed=1,2")
    first, second = (run.path for run in runs(tmp_path).values())
    (first / "metrics.json").write_text("{")
    (second / "status.json").write_text("{")
    out = sweep(*SMALL, "seed=1,2,3", code=1)
    assert "2 of 3 runs are finished" in out
    assert "is damaged" in out
    assert "3 of 3 runs are finished" in sweep(*SMALL, "seed=1,2,3", "rerun=all")
