"""A run that is resumed ends as the one that was left alone: the same weights and metrics to the last bit, and the
same TensorBoard records in the same order.
"""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from sparse_ae.jobs import execute as job
from sparse_ae.run.checkpoint import read_checkpoint, write_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.training.resume import ResumeState
from sparse_ae.training.stop import Stopped
from tests.helpers import execute_run, plain_config, train_run
from tests.scenarios.crashes import (
    EVERY_STEP,
    SHORT,
    WARMUP,
    PowerCut,
    assert_resumes_after_power_cut,
    assert_same,
    crashing,
)

VARIANTS: dict[str, list[str]] = {
    "plain": [WARMUP],
    "max_steps": ["trainer.max_steps=20"],
    "accumulated": [WARMUP, "trainer.accumulate_grad_batches=2"],
    "workers and transforms": [
        "data.num_workers=2",
        "data.transforms=[{_target_: torchvision.transforms.v2.GaussianNoise, sigma: 0.3}]",
    ],
    "no validation": ["data.val_size=0"],
    "validation every second epoch": ["trainer.check_val_every_n_epoch=2"],
    "validation within an epoch": ["+trainer.val_check_interval=4"],
    "linear, projected atoms, AdamW": [
        "model=linear",
        "sparsity=l1",
        "sparsity.atom_norm=true",
        "optimizer=adamw",
        WARMUP,
    ],
    "mixed precision, SGD": ["trainer.precision=bf16-mixed", "optimizer=sgd"],
    "a target, thresholds": ["model=linear", "sparsity=jumprelu", "target=l0", "target.value=5"],
    "a running threshold, dead units": [
        "model=linear",
        "sparsity=batch_topk",
        "sparsity.k=3",
        "dead=auxk",
        "dead.window_epochs=0.2",
    ],
    "dead units re-initialised": [
        "model=linear",
        "sparsity=topk",
        "sparsity.k=1",
        "dead=resample",
        "dead.every_epochs=1",
        "dead.until=1",
    ],
    "k annealed": ["model=lista", "sparsity=k_sparse", "sparsity.k=3"],
    "a path of coefficients": ["model=mlp", "sparsity=gated", "target=coefficient_path"],
    "clipped": ["trainer.gradient_clip_val=0.1"],
}
FAST = ("a target, thresholds", "a running threshold, dead units")


def variants() -> list[object]:
    """Every variant; those that take the fast ones' paths once more are slow."""
    return [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in VARIANTS]


@pytest.mark.parametrize("variant", variants())
def test_resume_after_power_cut(tmp_path: Path, variant: str) -> None:
    """In the middle of an epoch, before its last batch, after it, around a validation, and at the very end."""
    overrides = [*SHORT, EVERY_STEP, *VARIANTS[variant]]
    whole = train_run(tmp_path / "whole", *overrides)
    last = int(read_checkpoint(whole.last_checkpoint)["global_step"])
    for step in (3, last // 2 - 1, last // 2, last) if variant == "plain" else (last // 2 + 1, last):
        assert_resumes_after_power_cut(whole, step, *overrides)


@pytest.mark.parametrize(("in_the_middle", "saved"), [(False, 13), (True, 8)], ids=["between steps", "within a step"])
def test_resume_after_error(tmp_path: Path, pair: tuple[Run, Run], in_the_middle: bool, saved: int) -> None:
    """An error between two steps loses nothing; the half of a step before one is not saved."""
    with crashing(13, RuntimeError, in_the_middle=in_the_middle):
        train_run(tmp_path / "run", *SHORT)
    run = Run(tmp_path / "run")
    assert (run.read_state(), run.status.error) == ("failed", "RuntimeError: crash")
    assert read_checkpoint(run.last_checkpoint)["global_step"] == saved
    assert_same(train_run(run.path, *SHORT), pair[0])
    assert run.status.attempts == 2


def test_rerun_all_within_a_sweep(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    """``rerun=all`` does not start over what the same sweep began: Slurm queues a pre-empted job again."""
    config = plain_config(*SHORT, "rerun=all")
    with crashing(20, PowerCut):
        execute_run(tmp_path / "run", config, sweep="a")
    resumed = execute_run(tmp_path / "run", config, sweep="a")
    assert resumed.status.attempts == 2
    assert_same(resumed, pair[0])
    assert execute_run(tmp_path / "run", config, sweep="a").status.attempts == 2
    assert execute_run(tmp_path / "run", config, sweep="b").status.attempts == 3


def test_resume_global_random_states(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(1))]  # noqa: NPY002

    state = ResumeState(None)  # type: ignore[arg-type]
    np.random.randn()  # noqa: NPY002  # leaves a second normal number in the state
    write_checkpoint(tmp_path / "state", {"logged": {}, "state": state.state_dict()})
    expected = draw()
    assert draw() != expected
    state.load_state_dict(read_checkpoint(tmp_path / "state")["state"])
    state.on_train_start(None, None)  # type: ignore[arg-type]
    assert draw() == expected


def test_resume_before_first_step(tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(job, "starting_point", stopped)
        with pytest.raises(Stopped):
            train_run(tmp_path / "run", *SHORT)
    assert Run(tmp_path / "run").read_state() == "interrupted"
    assert_same(train_run(tmp_path / "run", *SHORT), pair[0])


def test_start_from_no_checkpoint_of_lightning(
    tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Slurm it would look for one in its root folder; a rank that Slurm sets makes no rank of the run."""
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "mine"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.path.joinpath("hpc_ckpt_1.ckpt").write_bytes(pair[1].last_checkpoint.read_bytes())
    assert_same(train_run(run.path, *SHORT), pair[0])


def test_start_from_checkpoint_of_another_run(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    """It takes over neither the parent's best score nor what the parent measured with another threshold."""
    parent = pair[0]
    start_here = [*SHORT, f"resume={parent.last_checkpoint}"]
    longer = train_run(tmp_path / "longer", *start_here, "trainer.max_epochs=5", "checkpoint.monitor=val/l0")
    state = read_checkpoint(longer.best_checkpoint)
    assert state["global_step"] > read_checkpoint(parent.last_checkpoint)["global_step"]
    assert state["callbacks"]["RunCheckpoint"]["best_score"] > 1  # an L0, not an MSE
    at_once = train_run(tmp_path / "at once", *start_here, "active_threshold=0.5")
    name = "val/population_sparsity"
    assert at_once.metrics[name] != parent.metrics[name]
    assert at_once.weights.read_bytes() == parent.weights.read_bytes()
