"""Searches on this machine: repeated, extended, resumed after a kill, with trials that fail, and reported."""

import json
import os
import re
import shutil
import signal
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from torch.utils.tensorboard import SummaryWriter

import sparse_ae
from sparse_ae.config.errors import UserError
from sparse_ae.lock import hold
from sparse_ae.reporting.curves import read_curves
from sparse_ae.reporting.search import Search, read_search
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.ranges import Numbers, Range
from sparse_ae.sweeps.study import Study
from tests.helpers import Cli, Outcome, run_command
from tests.processes import command, wait_until

SMALL = ["data=arrays", "data.path=x.npy", "data.batch_size=64", "model=linear", "model.latent_dim=16", "analysis=[]"]
SMALL += ["trainer.max_epochs=1", "trainer.enable_progress_bar=false", "visuals.every_n_epochs=9"]
SEARCH = ["-m", "hydra/sweeper=search", *SMALL, "hydra.launcher.n_jobs=2", "threads=1"]
SEARCH += ["hydra.sweeper.sampler=random"]
RANGES = ["sparsity=l1,hoyer", "sparsity.coefficient=tag(log,interval(1e-3,1))"]
PLACE = Path("outputs", "default")


def write_data(folder: Path) -> Path:
    np.save(folder / "x.npy", np.random.default_rng(0).random((200, 16), dtype=np.float32))
    return folder


def found(folder: Path) -> Search:
    search = read_search(folder / PLACE)
    assert search is not None
    return search


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> tuple[Path, Outcome]:
    """A folder in which a search of four trials has ended, and what it said."""
    folder = write_data(tmp_path_factory.mktemp("search"))
    return folder, run_command(folder, "sparse-ae-train", *SEARCH, *RANGES, "hydra.sweeper.n_trials=4")


@pytest.fixture
def copy(searched: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """The folder of the search, to be written into."""
    shutil.copytree(searched[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_trials_are_ordinary_runs(searched: tuple[Path, Outcome]) -> None:
    folder, outcome = searched
    assert (outcome.code, outcome.err) == (0, "")
    assert "4 of 4 trials are finished" in outcome.out
    trials = found(folder).trials
    assert [trial.state for trial in trials] == ["complete"] * 4
    assert len({trial.run for trial in trials}) == 4
    for trial in trials:
        run = Run(folder / PLACE / str(trial.run))
        assert run.metrics["val/fvu"] == trial.values[0]
        assert run.config["sparsity"]["coefficient"] == trial.params["sparsity.coefficient"]
        assert run.choices["sparsity"] == trial.params["sparsity"]
        name = f"{trial.params['sparsity']}-w{trial.params['sparsity.coefficient']:g}-n16-s42-"
        assert run.path.name.startswith(name)
    assert not list((folder / PLACE).glob(".stop-*"))


def test_the_best_is_shown_and_its_command_repeats_it(copy: Path, searched: tuple[Path, Outcome], cli: Cli) -> None:
    best = min(found(copy).trials, key=lambda trial: trial.values[0])
    repeat = re.search(r"^repeat: +sparse-ae-train (.+)$", searched[1].out, flags=re.MULTILINE)
    assert repeat is not None
    outcome = cli("sparse-ae-train", *repeat[1].replace("'", "").split())
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{best.run}: already finished" in outcome.out


def test_the_same_command_is_done_and_a_larger_number_extends_it(copy: Path, cli: Cli) -> None:
    before = found(copy)
    for n_trials in (4, 3):
        outcome = cli("sparse-ae-train", *SEARCH, *RANGES, f"hydra.sweeper.n_trials={n_trials}")
        assert outcome.code == 0
        assert "all trials are done; a larger hydra.sweeper.n_trials goes on" in outcome.out
        assert found(copy) == before
    assert cli("sparse-ae-train", *SEARCH, *RANGES, "hydra.sweeper.n_trials=5").code == 0
    assert found(copy).trials[:4] == before.trials
    assert len({trial.params["sparsity.coefficient"] for trial in found(copy).complete}) == 5


def test_two_metrics_and_a_run_that_is_finished(copy: Path, cli: Cli) -> None:
    """The same trials are chosen at random whatever is measured, and their runs are there."""
    runs = [trial.run for trial in found(copy).trials]
    (copy / PLACE / "search.journal").unlink()
    two = ["hydra.sweeper.metric=[val/fvu,val/l0]", "hydra.sweeper.n_trials=4"]
    outcome = cli("sparse-ae-train", *SEARCH, *RANGES, *two)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("already finished") == 4
    assert "front" in outcome.out
    search = found(copy)
    assert [trial.run for trial in search.trials] == runs
    assert {trial.run for trial in search.best} <= set(runs)
    assert cli("sparse-ae-report", str(PLACE)).code == 0
    assert "are on the front" in (copy / PLACE / "report.html").read_text()
    assert (copy / PLACE / "report" / "search.png").exists()


def test_the_report_shows_the_search(copy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # which a reader need not have
    outcome = cli("sparse-ae-report", str(PLACE))
    assert (outcome.code, outcome.err) == (0, "")
    assert f"Best is trial {found(copy).best[0].number}" in (copy / PLACE / "report.html").read_text()
    assert (copy / PLACE / "report" / "search.png").read_bytes().startswith(b"\x89PNG")
    (copy / PLACE / "search.json").write_text("{")
    assert cli("sparse-ae-report", str(PLACE)).code == 0
    assert "search.json: is damaged" in (copy / PLACE / "report.html").read_text()


def test_a_folder_holds_one_search_and_one_process(copy: Path, cli: Cli) -> None:
    others = {"ranges": "sparsity.coefficient=interval(0,1)", "options": "seed=7", "seed": "hydra.sweeper.seed=1"}
    for what, option in others.items():
        outcome = cli("sparse-ae-train", *SEARCH, *RANGES, option)
        expected = rf"{PLACE}/search\.journal: holds a search with other {what}.* \(expected another hydra\.sweep\.dir"
        assert outcome.code == 1
        assert re.fullmatch(rf"sparse-ae-train: error: {expected} for this one\)\n", outcome.err), outcome.err
    with hold(copy / PLACE / ".search.lock"):
        outcome = cli("sparse-ae-train", *SEARCH, *RANGES)
    assert re.fullmatch(rf"sparse-ae-train: error: {PLACE}: is being searched by process \d+ on .*\n", outcome.err)


@pytest.mark.slow
def test_a_trial_that_makes_no_run_is_left_out(tmp_path: Path, cli: Cli) -> None:
    write_data(tmp_path)
    arguments = [*SEARCH, "sparsity=topk", "sparsity.k=4,99", "hydra.sweeper.n_trials=4"]
    for _ in range(2):  # the second finds all done, and still not all well
        outcome = cli("sparse-ae-train", *arguments)
        assert (outcome.code, outcome.err) == (1, "")
        states = [trial.state for trial in found(tmp_path).trials]
        assert set(states) == {"complete", "failed"}
        assert "sparsity.k=99: not a number of units" in " ".join(outcome.out.replace("│", " ").split())


def test_a_session_searches(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    runs = sparse_ae.sweep(*SEARCH[1:], *RANGES, "hydra.sweeper.n_trials=4")
    assert [run.path.name for run in runs] == [trial.run for trial in found(copy).trials]
    with pytest.raises(UserError, match=r"^hydra/sweeper=search: belongs to a sweep, which needs -m"):
        sparse_ae.train("hydra/sweeper=search", "seed=1")


MISTAKES: list[tuple[list[str], str]] = [
    ([], r"hydra/sweeper=search: a search chooses from ranges, and there is none \(expected a range such as"),
    (["hydra.sweeper.metric=val/nothing", *RANGES], r"hydra\.sweeper\.metric=val/nothing: not a validation metric"),
    (["hydra.sweeper.metric=val/fvuu", *RANGES], r".*; did you mean val/fvu\? \(expected val/dead_units, val/fvu, "),
    (
        ["hydra.sweeper.metric=test/fvu", *RANGES],
        r"hydra\.sweeper\.metric=test/fvu: the test split is never selected on",
    ),
    (["hydra.sweeper.metric=[val/fvu,val/l0,val/mse]", *RANGES], r"hydra\.sweeper\.metric=.*: not one metric, or two"),
    (["hydra.sweeper.metric=[]", *RANGES], r"hydra\.sweeper\.metric=\[\]: not one metric, or two"),
    (["hydra.sweeper.direction=[minimize,maximize]", *RANGES], r"hydra\.sweeper\.direction=.*: 2 for 1 metrics"),
    (["hydra.sweeper.direction=up", *RANGES], r"hydra\.sweeper\.direction=up: should be 'minimize' or 'maximize'"),
    (["hydra.sweeper.sampler=grid", *RANGES], r"hydra\.sweeper\.sampler=grid: should be 'tpe', 'random' or 'nsgaii'"),
    (["hydra.sweeper.pruner=mean", *RANGES], r"hydra\.sweeper\.pruner=mean: should be 'median'"),
    (
        ["hydra.sweeper.pruner=median", "hydra.sweeper.metric=[val/fvu,val/l0]", *RANGES],
        r"hydra\.sweeper\.pruner=median: trials are compared by one curve \(expected null, or one hydra",
    ),
    (
        ["hydra.sweeper.pruner=median", "logger=[]", *RANGES],
        r"logger=\[\]: trials are pruned by their curves, which no logger keeps \(expected tensorboard or csv\)",
    ),
    (["hydra.sweeper.n_trials=0", *RANGES], r"hydra\.sweeper\.n_trials=0: should be greater than 0"),
    (["hydra.sweeper.trials=3", *RANGES], r"hydra\.sweeper\.trials=3: no such key"),
    (["sparsity.rho=interval(1,0)"], r"sparsity\.rho=interval\(1,0\): holds no number"),
    (["sparsity.rho=tag(log,interval(0,1))"], r"sparsity\.rho=.*: a logarithmic scale has no 0"),
    (["sparsity.rhoo=interval(0,1)"], r"sparsity\.rhoo=0\.\d+: no such key in sparsity; did you mean rho\?"),
    (["data.val_size=0", *RANGES], r"data\.val_size=0: a search selects on the validation split \(expected above 0\)"),
    (["trainer.limit_val_batches=0", *RANGES], r"trainer\.limit_val_batches=0: a search selects on the validation"),
    (["rerun=all", *RANGES], r"rerun=all: a search resumes its study; delete search\.journal to begin another"),
    (["experiment=default,grid", *RANGES], r"experiment: a search has one value of it"),
    (["threads=range(1,3)", *RANGES], r"threads=.*: a sweep has one value of it"),
    (["hydra/launcher=slurm_local", *RANGES], r"hydra\.sweeper\.at_a_time=null: only hydra/launcher=local tells"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_one_line_and_writes_nothing(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    write_data(tmp_path)
    outcome = cli("sparse-ae-train", "-m", "hydra/sweeper=search", *SMALL, *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    told = outcome.err.splitlines()
    assert all(line.startswith("sparse-ae-train: error: ") for line in told)
    assert any(re.match(f"sparse-ae-train: error: {message}", line) for line in told), outcome.err
    assert len(told) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_search_without_m_or_with_the_wrong_sweeper(cli: Cli, tmp_path: Path) -> None:
    messages = {
        ("hydra/sweeper=search", "seed=1"): r"hydra/sweeper=search: belongs to a sweep, which needs -m",
        ("hydra/sweeper=search", *RANGES): r"sparsity=l1,hoyer: several values; a sweep needs -m",
        ("-m", *RANGES): r".*: not a list of values \(expected .*; hydra/sweeper=search takes intervals\)",
    }
    for arguments, message in messages.items():
        outcome = cli("sparse-ae-train", *arguments)
        assert outcome.code == 1
        assert re.match(f"sparse-ae-train: error: {message}", outcome.err), outcome.err
    assert list(tmp_path.iterdir()) == []


def test_without_optuna(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparse_ae.sweeps import search

    def lacks(name: str, *arguments: Any) -> Any:
        return None if name == "optuna" else util.find_spec(name, *arguments)

    monkeypatch.setattr(search, "find_spec", lacks)
    outcome = cli("sparse-ae-train", "-m", "hydra/sweeper=search", *RANGES)
    reason = "hydra/sweeper=search: not installed; pip install 'sparse-ae[search]' brings it"
    assert (outcome.code, outcome.err) == (1, f"sparse-ae-train: error: {reason}\n")


@pytest.mark.slow
def test_pruned_trials_are_those_that_optuna_prunes(tmp_path: Path, cli: Cli) -> None:
    """Curves of all trials, told to a study of Optuna's own, end the same ones; they are shown and never resumed."""
    write_data(tmp_path)
    options = ["hydra.sweeper.pruner=median", "trainer.max_epochs=150", "hydra.sweeper.n_trials=12"]
    options += ["hydra.sweep.subdir=c${sparsity.coefficient}/run", "fail_fast=true"]  # all end in one name
    arguments = [*SEARCH, "sparsity=l1", "sparsity.coefficient=tag(log,interval(1e-3,10))", *options]
    outcome = cli("sparse-ae-train", *arguments)
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    trials = found(tmp_path).trials
    runs = [Run(tmp_path / PLACE / str(trial.run)) for trial in trials]
    pruned = [trial.number for trial in trials if trial.state == "pruned"]
    assert 2 <= len(pruned) <= 7  # the first five never are
    assert f"{12 - len(pruned)} of 12 trials are finished, {len(pruned)} pruned" in outcome.out
    reference = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_warmup_steps=3))
    for batch in (range(start, start + 2) for start in range(0, 12, 2)):
        asked = {number: reference.ask() for number in batch}
        ended = {}
        for number, trial in asked.items():
            curve = read_curves(runs[number], ["val/fvu"])["val/fvu"].value
            for step, value in enumerate(map(float, curve), start=1):
                trial.report(value, step)
                if number not in ended and trial.should_prune():
                    ended[number] = step
        for number, trial in asked.items():
            if number in ended:
                assert trials[number].state == "pruned"
                reference.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                assert trials[number].state == "complete"
                reference.tell(trial, trials[number].values)
    stopped = [status for run in runs if (status := run.status).state == "interrupted"]
    assert stopped
    assert all(re.fullmatch(r"pruned at validation \d+, with val/fvu [\d.]+", str(s.error)) for s in stopped)
    attempts = [run.status.attempts for run in runs]
    again = cli("sparse-ae-train", *arguments)
    assert (again.code, again.err) == (0, "")
    assert [run.status.attempts for run in runs] == attempts
    assert not list((tmp_path / PLACE).glob(".stop*"))
    report = run_command(tmp_path, "sparse-ae-report", str(PLACE))
    assert (report.code, report.err) == (0, "")
    assert f"\n{12 - len(pruned)} finished, {len(pruned)} pruned\n" in report.out
    assert "partial" not in report.out


@pytest.mark.slow
def test_a_trial_that_failed_has_failed_whatever_its_curve(tmp_path: Path, cli: Cli) -> None:
    """Its curve is worse than those of all trials before it, and a folder stands where its model should be."""
    write_data(tmp_path)
    own = ["sparsity=l1", "trainer.max_epochs=3", "hydra.sweep.subdir=c${sparsity.coefficient}"]
    ranges: dict[str, Range] = {"sparsity.coefficient": Numbers(1e-3, 10.0, log=True)}
    drawn = Study(None, ranges=ranges, metric=["val/fvu"], direction=["minimize"], sampler="random", seed=0)
    last = [drawn.ask()["sparsity.coefficient"] for _ in range(7)][-1]
    run = Run(tmp_path / PLACE / f"c{last}")
    (run.path / "model.safetensors").mkdir(parents=True)
    alone = [f"sparsity.coefficient={last}", f"hydra.run.dir={PLACE}/c{last}"]
    assert cli("sparse-ae-train", *SMALL, *own, *alone).code == 1
    with SummaryWriter(str(run.path)) as writer:
        writer.add_scalar("val/fvu", 2.0, 3)
    options = ["hydra.sweeper.pruner=median", "hydra.sweeper.spared=0", "hydra.sweeper.n_trials=7", "rerun=none"]
    outcome = cli("sparse-ae-train", *SEARCH, "sparsity.coefficient=tag(log,interval(1e-3,10))", *own, *options)
    trial = found(tmp_path).trials[-1]
    assert (outcome.code, trial.run, trial.state) == (1, run.path.name, "failed")
    assert "model.safetensors" in trial.why


@pytest.mark.slow
def test_resume_after_kill(tmp_path: Path, cli: Cli) -> None:
    """SIGKILL to the search and its jobs, while a second batch trains; the same command ends with the same trials."""
    write_data(tmp_path)
    long = ["trainer.max_epochs=60", "checkpoint.every_n_minutes=0.001", "hydra.sweeper.at_a_time=2"]
    arguments = [*SEARCH, *RANGES, *long, "hydra.sweeper.n_trials=6"]
    process = command(tmp_path, *arguments)

    def training() -> list[int]:
        trials = found(tmp_path).trials if (tmp_path / PLACE / "search.json").exists() else []
        states = [Run(tmp_path / PLACE / str(trial.run)).status for trial in trials if trial.state == "running"]
        begun = [status.pid for status in states if status.pid and status.progress > 0.1]
        return begun if len(trials) > 2 else []

    wait_until(training)
    jobs = training()
    os.killpg(process.pid, signal.SIGKILL)
    for job in jobs:
        os.kill(job, signal.SIGKILL)
    process.communicate()
    before = json.loads((tmp_path / PLACE / "search.json").read_text())["trials"]
    wait_until(lambda: not any(Run(tmp_path / PLACE / trial["run"]).is_locked for trial in before))
    outcome = cli("sparse-ae-train", *arguments)
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    trials = found(tmp_path).trials
    assert [t.params for t in trials[: len(before)]] == [t["params"] for t in before]
    assert [t.state for t in trials] == ["complete"] * 6
    assert len({t.run for t in trials}) == 6
    attempts = [Run(tmp_path / PLACE / str(t.run)).status.attempts for t in trials]
    assert sorted(attempts)[0] == 1
    assert max(attempts) == 2
