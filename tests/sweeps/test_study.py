"""The study of a search: as Optuna's own, on any seed the same trials, and whole after a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from sparse_ae.reporting.search import Search, read_search, write_search
from sparse_ae.run.errors import RunError
from sparse_ae.sweeps.ranges import Choices, Numbers, Range
from sparse_ae.sweeps.search import _next_batch
from sparse_ae.sweeps.study import Study

RANGES: dict[str, Range] = {
    "rate": Numbers(1e-4, 1.0, log=True),
    "units": Numbers(16, 64, 16),
    "method": Choices(("l1", "kl")),
}


def study(file: Path | None, metric: list[str] | None = None, **options: Any) -> Study:
    metric = metric or ["val/fvu"]
    settings = {"direction": ["minimize"] * len(metric), "sampler": "tpe", "seed": 0, "ranges": RANGES, **options}
    return Study(file, metric=metric, **settings)


def value(params: dict[str, Any]) -> float:
    """A measure with its best at rate 0.01, 48 units, kl."""
    return float(abs(np.log(params["rate"] / 0.01)) + abs(params["units"] - 48) + (params["method"] == "l1"))


def complete(of: Study, number: int, params: dict[str, Any]) -> None:
    of.tell(number, [value(params)] if len(of.metric) == 1 else [value(params), float(params["units"])])


def searched(of: Study, n_trials: int, size: int) -> Search:
    while batch := _next_batch(of, size, n_trials):
        for number, params in batch.items():
            complete(of, number, params)
    return of.record()


def test_values_are_in_the_ranges() -> None:
    trials = searched(study(None, sampler="random"), 40, 4).trials
    assert {trial.params["units"] for trial in trials} == {16, 32, 48, 64}
    assert {trial.params["method"] for trial in trials} == {"l1", "kl"}
    rates = np.array([trial.params["rate"] for trial in trials])
    assert ((rates >= 1e-4) & (rates <= 1)).all()
    assert 0.25 < (rates < 0.01).mean() < 0.75  # half of the decades


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
def test_trials_depend_on_the_seed_and_not_on_the_process(tmp_path: Path, sampler: str) -> None:
    whole = searched(study(tmp_path / "whole", sampler=sampler), 18, 3)
    for n_trials in (6, 7, 18):  # the file is read again by each
        again = searched(study(tmp_path / "again", sampler=sampler), n_trials, 3)
    assert again.trials == whole.trials
    others = searched(study(None, sampler=sampler, seed=1), 18, 3)
    assert not {t.params["rate"] for t in others.trials} & {t.params["rate"] for t in whole.trials}
    assert len({t.params["rate"] for t in whole.trials}) == 18


def test_tpe_finds_what_optuna_finds() -> None:
    """It ends nearer to the best than random trials do, as Optuna's own sampler in its own loop."""

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1, log=True)
        units = trial.suggest_int("units", 16, 64, step=16)
        return value({"rate": rate, "units": units, "method": trial.suggest_categorical("method", ["l1", "kl"])})

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    own.optimize(objective, n_trials=40)
    found = searched(study(None), 40, 1).best[0].values[0]
    chance = np.median([value(trial.params) for trial in searched(study(None, sampler="random"), 40, 1).trials])
    assert max(found, own.best_value) < 1 < chance


def test_a_killed_batch_is_executed_first_and_nothing_twice(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    whole = searched(study(None), 8, 4)
    first = study(file)
    batch = _next_batch(first, 4, 8)
    complete(first, 1, batch[1])
    second = study(file)
    assert list(second.running) == [0, 2, 3]
    assert second.running == _next_batch(second, 4, 8) == {number: batch[number] for number in (0, 2, 3)}
    assert searched(second, 8, 4).trials == whole.trials


def test_a_kill_while_a_batch_is_chosen(tmp_path: Path) -> None:
    """Every length of the file that a kill may leave, to within a line: the same trials in the end."""
    file, half = tmp_path / "journal", tmp_path / "half"
    _next_batch(study(file), 3, 3)
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        half.write_bytes(b"".join(lines[:kept]) + lines[kept][:-5])
        found = searched(study(half), 3, 3)
        assert len(found.complete) == 3
        assert len({trial.params["rate"] for trial in found.trials}) == 3
        assert searched(study(half), 3, 3) == found


def test_the_median_prunes_as_optunas_and_a_pruned_trial_is_told(tmp_path: Path) -> None:
    pruning, own = study(tmp_path / "journal", spared=1), optuna.create_study(pruner=optuna.pruners.MedianPruner(5, 2))
    generator, states = np.random.default_rng(0), []
    for number in range(20):
        pruning.ask()
        trial, curve = own.ask(), [float(value) for value in generator.random(4)]
        expected = None
        for validation, reached in enumerate(curve, start=1):
            trial.report(reached, validation)
            if trial.should_prune():
                expected = validation
                own.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            own.tell(trial, curve[-1])
        assert pruning.judge(before=number).pruned_at(curve) == expected
        pruning.tell(number, [] if expected else curve[-1:], curve=curve[:expected], pruned=expected is not None)
        states.append("pruned" if expected else "complete")
    assert {"pruned", "complete"} == set(states[5:])
    again = study(tmp_path / "journal", spared=1)
    assert [trial.state for trial in again.record().trials] == states
    assert all(len(trial.values) == 1 for trial in again.record().trials)
    assert len(again.record().complete) == states.count("complete")


def test_a_batch_is_judged_by_those_before_it_and_values_that_are_no_numbers_count_for_nothing() -> None:
    """So a batch that was stopped halfway is judged as one that was not."""
    pruning = study(None)
    for number in range(8):
        pruning.ask()
        pruning.tell(number, [0.1 * number], curve=[0.1 * number])
    assert pruning.judge(before=4).pruned_at([9.0]) is None
    assert pruning.judge(before=6).pruned_at([9.0]) == 1
    assert pruning.judge(before=6).pruned_at([float("nan"), float("inf")]) is None


def test_a_foreign_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("no journal\nat all\n")
    with pytest.raises(RunError, match=r"journal: is damaged \("):
        study(tmp_path / "journal")


@pytest.mark.parametrize("direction", [["minimize", "minimize"], ["minimize", "maximize"]])
def test_the_front_is_optunas(tmp_path: Path, direction: list[str]) -> None:
    own = study(tmp_path / "journal", ["val/fvu", "val/l0"], direction=direction, sampler="random")
    found = searched(own, 30, 5)
    own.tell(next(iter(_next_batch(own, 1, len(found.trials) + 1))), [], "failed")
    optunas = {trial.number for trial in own._study.best_trials}
    assert len(optunas) > 1
    assert {trial.number for trial in own.record().best} == optunas
    costs = [trial.values[0] for trial in own.record().best]
    assert costs == sorted(costs)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_is_optunas(direction: str) -> None:
    own = study(None, direction=[direction])
    found = searched(own, 12, 4)
    assert found.best[0].number == own._study.best_trial.number
    best = (min if direction == "minimize" else max)(trial.values[0] for trial in found.trials)
    assert found.best_so_far[-1] == found.best[0].values[0] == best
    assert found.best_so_far[0] == found.trials[0].values[0]


def test_record_is_written_and_read(tmp_path: Path) -> None:
    own = study(None)
    first, second, third = _next_batch(own, 3, 3)
    own.note_run(first, "run, 1")
    own.tell(first, [0.5])
    own.tell(second, [], "why")
    write_search(tmp_path, own.record())
    assert read_search(tmp_path) == own.record()
    assert [trial.state for trial in own.record().trials] == ["complete", "failed", "running"]
    header, *rows = (tmp_path / "search.csv").read_text().splitlines()
    assert header == "trial,state,run,val/fvu,rate,units,method,why"
    assert rows[0].startswith('0,complete,"run, 1",0.5,')
    assert rows[1].endswith(",why")
    assert rows[2].startswith(f"{third},running,,,")
    (tmp_path / "search.json").write_text('{"metric": [], "direction": [], "trials": []}')
    with pytest.raises(RunError, match=r"search\.json: is damaged \("):
        read_search(tmp_path)
    assert read_search(tmp_path / "nowhere") is None
