"""Sweeps on this machine: repeated, extended, stopped, with jobs that fail or are killed."""

import os
import re
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from sparse_ae.run.directory import Run
from sparse_ae.sweeps.console import Watch
from tests.events import hparams_tab
from tests.helpers import Cli
from tests.processes import wait_until
from tests.scenarios.sweeps import LONG, SMALL, Sweep, runs, training


def test_repeated_sweep(tmp_path: Path, sweep: Sweep) -> None:
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
    assert runs(tmp_path)["l1-w0.01-n16-s1"].read_state() == "finished"

    tab = hparams_tab(tmp_path)
    assert tab.differing == ["sparsity.coefficient"]
    assert len(tab.rows) == 3
    assert {(row["sparsity"], row["target"], row["trainer"]) for row in tab.rows.values()} == {("l1", "none", "auto")}

    out = sweep(*SMALL, "sparsity.coefficient=0.1,1e-4,1", "seed=1", "analysis=[sparsity]")
    assert "3 runs, 1 to train, 2 to analyse" in out
    told = set(re.findall(r"^\[\d/3\] l1-w([\d.]+)-n16-s1-\w{8}  (analysed|finished)", out, re.MULTILINE))
    assert told == {("0.0001", "analysed"), ("0.1", "analysed"), ("1", "finished")}


@pytest.mark.slow
def test_rerun_all(tmp_path: Path, sweep: Sweep) -> None:
    for _ in range(2):
        assert "1 runs, 1 to train" in sweep(*SMALL, "sparsity.coefficient=0.1", "seed=1", "rerun=all")
    assert runs(tmp_path)["l1-w0.1-n16-s1"].status.attempts == 2


@pytest.mark.slow
def test_failing_jobs(tmp_path: Path, cli: Cli) -> None:
    """One diverges, one is killed, one has an impossible value; the fourth is fine."""
    linear = ["model=linear", "model.unit_norm=false", "trainer.log_every_n_steps=5"]
    short = ["trainer.max_epochs=4", "trainer.limit_train_batches=60"]
    arguments = ["-m", *LONG, *short, *linear, "optimizer.lr=1e-3,1e-4,1e30,-1"]
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
    return [status.pid for status in jobs if status.progress > 0 and status.pid is not None]


@pytest.mark.slow
def test_duplicates(tmp_path: Path, sweep: Sweep) -> None:
    out = sweep(*SMALL, "visuals.n_images=4,8")
    assert "1 runs, 1 to train" in out
    assert re.search(r"duplicate of l1-w0\.01-n16-s42-\w{8}: visuals\.n_images=8", out)


@pytest.mark.slow
def test_failing_analysis(tmp_path: Path, sweep: Sweep) -> None:
    sweep(*SMALL, "seed=1,2")
    first, second = runs(tmp_path).values()
    second.weights.write_bytes(b"damaged")
    out = sweep(*SMALL, "seed=1,2", "analysis=[overview]", code=1)
    assert "2 runs, 0 to train, 2 to analyse" in out
    assert f"[1/2] {first.path.name}  analysed" in out
    assert "1 of 2 runs are finished" in out
    assert "lacks the analysis overview" in " ".join(out.replace("│", " ").split())
    assert first.has_analysis("overview")


def test_one_device_per_job(tmp_path: Path, cli: Cli) -> None:
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    outcome = cli("sparse-ae-train", "-m", *SMALL, *ddp, "seed=1,2")
    expected = "sparse-ae-train: error: trainer.devices=2: a sweep trains each run on one device (expected 1)\n"
    assert (outcome.code, outcome.err) == (1, expected)
    assert list(tmp_path.iterdir()) == []


def test_several_experiments(tmp_path: Path, sweep: Sweep) -> None:
    small = [o for o in SMALL if not o.startswith("sparsity")]
    out = sweep(*small, "experiment=sparsity_weight_l1,sparsity_weight_kl", "sparsity.coefficient=0.1", "seed=1")
    assert out.startswith("outputs/sparsity_weight_l1, outputs/sparsity_weight_kl: 2 runs, 2 to train")
    assert "2 of 2 runs are finished" in out
    assert "sparse-ae-report outputs/sparsity_weight_l1 outputs/sparsity_weight_kl --into outputs\n" in out
    names = sorted(p.parent.name for p in (tmp_path / "outputs").glob("*/*/status.json"))
    assert [name.rpartition("-")[0] for name in names] == ["kl-w0.1-n16-s1", "l1-w0.1-n16-s1"]


@pytest.mark.slow
def test_folders(tmp_path: Path, sweep: Sweep) -> None:
    """The number of threads is the launcher's choice, and no part of a name."""
    small = [option for option in SMALL if option != "threads=1"]
    odd = ["hydra.sweep.dir='a b'", "hydra.sweep.subdir=seed${seed}/${hydra:job.override_dirname}"]
    out = sweep(*small, *odd, "seed=1")
    assert "1 of 1 runs are finished" in out
    (status,) = (tmp_path / "a b" / "seed1").glob("*/status.json")
    assert "threads" not in status.parent.name
    assert "0 to train" in sweep(*small, *odd, "seed=1")


@pytest.mark.slow
def test_damaged_files(tmp_path: Path, sweep: Sweep) -> None:
    sweep(*SMALL, "seed=1,2")
    first, second = (run.path for run in runs(tmp_path).values())
    (first / "metrics.json").write_text("{")
    (second / "status.json").write_text("{")
    out = sweep(*SMALL, "seed=1,2,3", code=1)
    assert "2 of 3 runs are finished" in out
    assert "is damaged" in out
    assert "3 of 3 runs are finished" in sweep(*SMALL, "seed=1,2,3", "rerun=all")


def test_stop_and_resume(tmp_path: Path, cli: Cli, sweep: Sweep) -> None:
    """SIGTERM to the sweep's own process. Its jobs save and stop, and the next sweep resumes them."""
    arguments = [*LONG, "trainer.limit_train_batches=50", "seed=1,2,3", "hydra.launcher.n_jobs=2"]

    def stop() -> None:
        wait_until(lambda: training(tmp_path))
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    outcome = cli("sparse-ae-train", "-m", *arguments)
    stopper.join()
    assert outcome.code == 128 + signal.SIGTERM
    assert "stopping" in outcome.err
    assert "retry:" in outcome.out
    assert {(run.read_state(), run.status.error) for run in runs(tmp_path).values()} == {("interrupted", "SIGTERM")}
    assert not list((tmp_path / "outputs" / "default").glob(".stop-*"))
    sweep(*arguments)
    assert {run.read_state() for run in runs(tmp_path).values()} == {"finished"}
    assert runs(tmp_path)["l1-w0.01-n16-s1"].status.attempts == 2


@pytest.mark.parametrize("launcher", ["local", pytest.param("basic", marks=pytest.mark.slow)])
def test_fail_fast(tmp_path: Path, sweep: Sweep, launcher: str) -> None:
    """A file where the checkpoints of the first run should be; the same command goes on once it is removed."""
    local = ["hydra.launcher.n_jobs=2", "hydra.launcher.pack=off"] if launcher == "local" else []
    arguments = [*LONG, "trainer.limit_train_batches=50", "fail_fast=true", f"hydra/launcher={launcher}", *local]
    arguments += ["seed=1,2,3", "hydra.sweep.subdir=s${seed}"]
    first, second, third = (Run(tmp_path / "outputs" / "default" / f"s{seed}") for seed in (1, 2, 3))
    first.path.mkdir(parents=True)
    first.checkpoints.touch()
    out = sweep(*arguments, code=1)
    assert "stopping, because a run failed (fail_fast=true): the jobs save what they have" in out
    table = " ".join(out[out.index("not finished") :].replace("│", " ").split())
    assert "not started, because another run failed before (fail_fast=true)" in table
    assert "retry: sparse-ae-train -m" in table
    assert first.read_state() == "failed"
    assert third.read_state() == "new"
    assert second.read_state() == ("interrupted" if launcher == "local" else "new")
    assert second.last_checkpoint.exists() == (launcher == "local")
    assert not list(first.path.parent.glob(".stop-*"))
    first.checkpoints.unlink()
    assert "3 of 3 runs are finished" in sweep(*arguments)
    assert [run.status.attempts for run in (first, second, third)] == [2, 2 if launcher == "local" else 1, 1]


def test_fail_fast_begins_nothing_beside_mistakes(tmp_path: Path, cli: Cli) -> None:
    outcome = cli("sparse-ae-train", "-m", *SMALL, "optimizer.lr=1e-3,-1", "fail_fast=true")
    error = "sparse-ae-train: error: optimizer: Invalid learning rate: -1.0\n"
    assert (outcome.code, outcome.err, list(tmp_path.iterdir())) == (1, error, [])


@pytest.mark.slow
def test_wait_for_another_process(tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is locked is waited for, and trained once it is free and not finished."""
    sweep(*SMALL, "seed=1")
    (run,) = runs(tmp_path).values()
    run.weights.unlink()
    say_once = Watch.say_once

    def say_and_release(watch: Watch, line: str) -> None:
        say_once(watch, line)
        held.close()

    monkeypatch.setattr(Watch, "say_once", say_and_release)
    with ExitStack() as held:
        held.enter_context(run.lock())
        out = sweep(*SMALL, "seed=1,2")
    assert "waiting for 1 that another process has locked" in out
    assert "2 of 2 runs are finished" in out
    assert [run.status.attempts for run in runs(tmp_path).values()] == [2, 1]
