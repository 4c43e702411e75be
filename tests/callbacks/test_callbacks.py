"""Early stopping and other callbacks: when, with which words, and the same after a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from tests.helpers import Cli, plain_config, train_run
from tests.scenarios.crashes import SHORT, PowerCut, assert_same, crashing

STOPS = [*SHORT, "trainer.max_epochs=6", "callbacks=[early_stopping]", "callbacks.early_stopping.patience=2"]
"""Eight steps an epoch; with NEVER, the first validation is better than none and no other is."""
NEVER = "callbacks.early_stopping.min_delta=1"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Run:
    """A run that stops early and was left alone."""
    return train_run(tmp_path_factory.mktemp("stopped") / "run", *STOPS, NEVER)


def test_stops_after_patience_checks_without_a_better_value(whole: Run) -> None:
    assert read_checkpoint(whole.last_checkpoint)["global_step"] == 3 * 8
    status = whole.status
    assert (status.state, status.progress, status.error) == ("finished", 1.0, None)
    best = read_checkpoint(whole.last_checkpoint)["callbacks"]
    (state,) = (state for key, state in best.items() if key.startswith("EarlyStopping"))
    expected = f"after 24 of 48 steps: val/mse has not been better than {float(state['best_score']):.4g} in 2 checks"
    assert status.stopped == f"{expected}. What was scheduled over all of training ended there"
    assert "Training was stopped early, after 24 of 48 steps" in (whole.path / "report.html").read_text()


@pytest.mark.parametrize("step", [13, 24])
def test_a_run_that_is_killed_stops_at_the_same_step(whole: Run, tmp_path: Path, step: int) -> None:
    """Also one that is killed right before the end of its last epoch."""
    overrides = [*STOPS, NEVER, "checkpoint.every_n_minutes=1e-9"]
    with crashing(step, PowerCut):
        train_run(tmp_path / "run", *overrides)
    assert_same(train_run(tmp_path / "run", *overrides), whole)


def test_a_run_that_is_killed_after_it_stopped_trains_no_further(whole: Run, tmp_path: Path) -> None:
    with _crash_in_test():
        train_run(tmp_path / "run", *STOPS, NEVER)
    run = Run(tmp_path / "run")
    assert run.read_state() == "interrupted"
    assert_same(train_run(run.path, *STOPS, NEVER), whole)
    assert run.status.stopped == whole.status.stopped


@pytest.mark.slow
def test_what_a_callback_does_at_the_end_is_done_after_a_kill_too(tmp_path: Path) -> None:
    """Lightning's average of the weights takes their place only then."""
    average = "lightning.pytorch.callbacks.EMAWeightAveraging"
    overrides = [
        *SHORT,
        "trainer.max_epochs=1",
        f"+callbacks.average._target_={average}",
        "+callbacks.average.decay=0.9",
    ]
    whole = train_run(tmp_path / "whole", *overrides)
    with _crash_in_test():
        train_run(tmp_path / "run", *overrides)
    assert_same(train_run(tmp_path / "run", *overrides), whole)
    last = train_run(tmp_path / "last", *SHORT, "trainer.max_epochs=1")
    assert last.weights.read_bytes() != whole.weights.read_bytes()


@contextmanager
def _crash_in_test() -> Iterator[None]:
    def crash(*_: object) -> None:
        raise PowerCut("crash")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparse_ae.training.module.SparseAutoencoderModule.on_test_epoch_start", crash)
        with pytest.raises(PowerCut):
            yield


def test_a_new_run_from_its_checkpoint_does_not_stop_with_it(whole: Run, tmp_path: Path) -> None:
    """It trains until its own checks say so: an epoch more for the first of them."""
    run = train_run(tmp_path / "run", *STOPS, NEVER, f"resume={whole.last_checkpoint}", "seed=1")
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 6 * 8


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["data.val_size=0", "callbacks.early_stopping.monitor=train/loss", NEVER], 24),
        (["trainer.check_val_every_n_epoch=2", "callbacks.early_stopping.patience=1", NEVER], 32),
        (["callbacks.early_stopping.stopping_threshold=1"], 8),
        (["+trainer.val_check_interval=4", NEVER], 12),
        (["sparsity=l1", "target=l0", "target.value=4", NEVER], 24),
    ],
    ids=["training loss", "validation every second epoch", "threshold", "within an epoch", "target"],
)
def test_where_it_stops(tmp_path: Path, overrides: list[str], steps: int) -> None:
    run = train_run(tmp_path / "run", *STOPS, *overrides)
    assert read_checkpoint(run.last_checkpoint)["global_step"] == steps
    assert (run.status.stopped or "").startswith(f"after {steps} of 48 steps: ")
    assert ("target=l0" in overrides) == (run.status.target is not None)


def test_a_run_that_comes_to_its_end_was_not_stopped(tmp_path: Path) -> None:
    assert train_run(tmp_path / "run", *STOPS, "trainer.max_epochs=3", NEVER).status.stopped is None


def test_fast_dev_run(tmp_path: Path) -> None:
    both = "callbacks=[early_stopping,learning_rate_monitor]"
    run = train_run(tmp_path / "run", *STOPS, both, "trainer.fast_dev_run=true")
    assert (run.read_state(), run.status.stopped) == ("finished", None)
    assert not run.event_files
    assert not run.metrics_table.exists()


def test_the_time_limit_of_the_trainer_is_a_reason_too(tmp_path: Path) -> None:
    run = train_run(tmp_path / "run", *SHORT, "+trainer.max_time={seconds: 0}")
    assert run.read_state() == "finished"
    assert run.status.stopped is not None
    assert "its time is over" in run.status.stopped


def test_callbacks_of_lightning_that_cannot_be(tmp_path: Path) -> None:
    lightning = "lightning.pytorch.callbacks"
    added = {
        "timer": {"_target_": f"{lightning}.Timer", "duration": "soon"},
        "trainer": {"_target_": "lightning.pytorch.Trainer"},
        "again": {"_target_": f"{lightning}.EarlyStopping", "monitor": "val/mse"},
        "twice": {"_target_": f"{lightning}.EarlyStopping", "monitor": "val/mse", "patience": 9},
        "mzes": {"_target_": f"{lightning}.EarlyStopping", "monitor": "val/mze"},
    }
    config = plain_config(*SHORT, "trainer.max_epochs=-1")
    config["callbacks"] = added
    with pytest.raises(ValueError, match="is not a valid duration") as caught:
        AutoencoderJob(config, Run(tmp_path / "run"))
    told = {line.split(": ")[0]: line for line in str(caught.value).splitlines()}
    assert [*told] == ["callbacks.timer", "callbacks.trainer._target_=lightning.pytorch.Trainer", "callbacks.twice"]
    assert "does the same as callbacks.again" in told["callbacks.twice"]
    del added["timer"], added["trainer"], added["twice"]
    with pytest.raises(ValueError, match=r"callbacks\.mzes\.monitor=val/mze: no such metric; did you mean val/mse\?"):
        AutoencoderJob(config, Run(tmp_path / "run"))


def test_mistakes_on_the_command_line(cli: Cli, tmp_path: Path) -> None:
    stopping = "callbacks=[early_stopping]"
    cases = {
        (stopping, "callbacks.early_stopping.monitor=val/mze"): (
            "callbacks.early_stopping.monitor=val/mze: no such metric; did you mean val/mse? (expected train/kl, "
            "train/loss, train/recon, val/dead_units, val/fvu, val/hoyer, val/inactive_units, val/l0, "
            "val/lifetime_sparsity, val/mse, val/population_sparsity)"
        ),
        (stopping, "data.val_size=0"): ("data.val_size=0: callbacks.early_stopping watches val/mse (expected above 0)"),
        (stopping, "trainer.limit_val_batches=0"): (
            "trainer.limit_val_batches=0: callbacks.early_stopping watches val/mse (expected above 0)"
        ),
        (stopping, "callbacks.early_stopping.patience=0"): (
            "callbacks.early_stopping.patience=0: should be greater than 0"
        ),
        (stopping, "+callbacks.early_stopping.patients=2"): (
            "callbacks.early_stopping.patients: no such key; did you mean patience? (expected min_delta, mode, "
            "monitor, patience, stopping_threshold)"
        ),
        ("logger=[csv]", "+logger.csv.folder=x"): "logger.csv.folder: no such key",
        ("+logger.mine._target_=lightning.pytorch.loggers.CSVLogger", "+logger.mine.save_dir=x"): (
            "logger.mine._target_=lightning.pytorch.loggers.CSVLogger: not a RunLogger of sparse_ae.loggers"
        ),
    }
    for overrides, line in cases.items():
        outcome = cli("sparse-ae-train", *overrides)
        assert (outcome.code, outcome.err) == (1, f"sparse-ae-train: error: {line}\n")
    assert list(tmp_path.iterdir()) == []
