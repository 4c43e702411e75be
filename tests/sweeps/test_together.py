"""Runs that train together in one process, against the same runs alone."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.jobs.execute import execute
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.sparsity import L1
from sparse_ae.sweeps.local import LocalLauncher
from sparse_ae.sweeps.process import JobSpec, run_isolated
from sparse_ae.sweeps.together import execute_together
from sparse_ae.training.loop import TrainingLoop
from sparse_ae.training.module import SparseAutoencoderModule
from sparse_ae.training.stop import Stopped
from tests.helpers import SMALL, plain_config

KIND = f"{AutoencoderJob.__module__}:{AutoencoderJob.__name__}"


@pytest.fixture(autouse=True)
def _keeps_log_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def spec(folder: Path, *overrides: str) -> JobSpec:
    config = plain_config(*SMALL, "visuals.every_n_epochs=100", "model.latent_dim=32", "threads=1", *overrides)
    return JobSpec(KIND, config, folder, {})


def assert_close(one: Run, other: Run) -> None:
    """Everything that a run leaves is the same, up to rounding."""
    ours, theirs = (read_checkpoint(run.last_checkpoint) for run in (one, other))
    assert ours.keys() == theirs.keys()
    assert ours["loops"] == theirs["loops"]
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in ours["state_dict"].items():
        torch.testing.assert_close(value, theirs["state_dict"][name], rtol=1e-4, atol=1e-5, msg=name)
    assert one.last_checkpoint.stat().st_size == pytest.approx(other.last_checkpoint.stat().st_size, rel=0.01)
    assert one.metrics.keys() == other.metrics.keys()
    ours, theirs = ({name: value for name, value in run.metrics.items() if value is not None} for run in (one, other))
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


MEMBERS = {
    "a": ["sparsity=l1", "sparsity.coefficient=0.001"],
    "b": ["sparsity=l1", "sparsity.coefficient=0.1", "optimizer.lr=3e-3", "scheduler=cosine"],
    "other_seed": ["sparsity=l1", "seed=7"],
    "other_program": ["sparsity=topk"],
}


def stop_in_epoch(number: int, each: JobSpec) -> None:
    """Train until an epoch begins, counted from 0, and stop there as if a signal had asked for it."""
    original = SparseAutoencoderModule.on_train_epoch_start

    def stopping(self: SparseAutoencoderModule) -> None:
        if self.current_epoch == number:
            raise Stopped(15)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparseAutoencoderModule, "on_train_epoch_start", stopping)
        with pytest.raises(Stopped):
            execute(each.build(), {})
    assert Run(each.folder).read_state() == "interrupted"


def test_members_end_as_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also one that was stopped before, and one that is of another program."""
    alone = {name: spec(tmp_path / "alone" / name, *overrides) for name, overrides in MEMBERS.items()}
    for each in alone.values():
        execute(each.build(), {})
    packed = {name: spec(tmp_path / "packed" / name, *overrides) for name, overrides in MEMBERS.items()}
    stop_in_epoch(1, packed["b"])
    with capfd.disabled():  # output goes to each run's log
        assert execute_together(list(packed.values()))
    for name in MEMBERS:
        one, other = Run(packed[name].folder), Run(alone[name].folder)
        assert (one.status.state, one.status.packed, other.status.packed) == ("finished", 4, 1)
        assert_close(one, other)
        lines = [line for line in one.log.read_text().splitlines() if line.startswith("epoch ")]
        assert [line.split()[1] for line in lines] == (["2/2"] if name == "b" else ["1/2", "2/2"])


@pytest.mark.slow
def test_members_resume_from_one_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As after a kill in the middle of saving: one has a checkpoint of step 40, both have one of step 20."""
    options = ["sparsity=l1", "trainer.max_epochs=3", "trainer.limit_train_batches=20"]
    early, late = (spec(tmp_path / name, *options, f"optimizer.lr={lr}") for name, lr in (("a", 0.001), ("b", 0.002)))
    stop_in_epoch(1, early)
    stop_in_epoch(2, late)
    with capfd.disabled():
        assert execute_together([early, late])
    log = Run(late.folder).log.read_text()
    assert "last.ckpt is later than those of the runs that train with this one; the checkpoint before it is used" in log
    assert "later than" not in Run(early.folder).log.read_text()
    epochs = [line.split()[1] for line in log.splitlines() if line.startswith("epoch ")]
    assert epochs == ["2/3", "3/3"]
    alone = spec(tmp_path / "alone", *options, "optimizer.lr=0.002")
    execute(alone.build(), {})
    assert_close(Run(late.folder), Run(alone.folder))


def test_one_that_diverges_fails_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    specs = [spec(tmp_path / str(lr), "sparsity=l1", f"optimizer.lr={lr}") for lr in (1e-3, 1e30, 1e-2)]
    with capfd.disabled():
        assert not execute_together(specs)
    statuses = [Run(each.folder).status for each in specs]
    assert [status.state for status in statuses] == ["finished", "failed", "finished"]
    assert statuses[1].error is not None
    assert "at step" in statuses[1].error
    assert "NonFiniteLossError" in Run(specs[1].folder).log.read_text()
    assert "NonFiniteLossError" not in Run(specs[0].folder).log.read_text()


def test_a_step_that_fails_is_the_failure_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = TrainingLoop.clip_gradients

    def failing(self: TrainingLoop) -> None:
        if self.global_step == 22 and self.trainer.optimizers[0].param_groups[0]["lr"] == 0.01:
            raise RuntimeError("no such step")
        clip(self)

    monkeypatch.setattr(TrainingLoop, "clip_gradients", failing)
    specs = [spec(tmp_path / str(lr), "sparsity=l1", f"optimizer.lr={lr}") for lr in (0.01, 0.001, 0.002)]
    with capfd.disabled():
        assert not execute_together(specs)
    runs = [Run(each.folder) for each in specs]
    assert [run.read_state() for run in runs] == ["failed", "finished", "finished"]
    assert runs[0].status.error == "RuntimeError: no such step"
    assert ["no such step" in run.log.read_text() for run in runs] == [True, False, False]
    assert all(0 < run.status.wall_seconds < 60 for run in runs)


class L1OfOneModel(L1):
    """Written without thinking of a stack: a mean over what is the first dimension of one model."""

    def losses(self, forward: Any, network: Any) -> dict[str, torch.Tensor]:
        return {"l1": forward.z.abs().sum(dim=-1).mean(dim=0)}


def test_runs_with_a_part_that_is_not_for_stacks_train_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = f"sparsity._target_={__name__}.L1OfOneModel"
    specs = [spec(tmp_path / str(c), "sparsity=l1", target, f"sparsity.coefficient={c}") for c in (0.001, 0.1)]
    assert specs[0].build().packable == specs[1].build().packable is not None
    alone = spec(tmp_path / "alone", "sparsity=l1", target, "sparsity.coefficient=0.1")
    execute(alone.build(), {})
    with capfd.disabled():
        assert execute_together(specs)
    assert Run(specs[1].folder).metrics == Run(alone.folder).metrics
    assert "each trains alone" in Run(specs[0].folder).log.read_text()


class L1WithTooLargeSteps(L1):
    """A penalty for which memory suffices in a step of up to two models."""

    def losses(self, forward: Any, network: Any) -> dict[str, torch.Tensor]:
        if forward.z.dim() > 2 and len(forward.z) > 2 and forward.z.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().losses(forward, network)


class L1WithTooLargeStacks(L1):
    """A penalty for which memory suffices for up to two models, also before their first step."""

    def losses(self, forward: Any, network: Any) -> dict[str, torch.Tensor]:
        if forward.z.dim() > 2 and len(forward.z) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().losses(forward, network)


class L1WithTooManyBeside(L1):
    """A penalty for which memory suffices outside of steps where up to two runs are in the process."""

    def activate(self, pre: torch.Tensor) -> torch.Tensor:
        members = [thread for thread in threading.enumerate() if thread.name.startswith("member-")]
        if pre.dim() == 2 and not torch.is_grad_enabled() and len(members) > 2:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return super().activate(pre)


@pytest.mark.parametrize(
    "method",
    [
        L1WithTooLargeSteps,
        pytest.param(L1WithTooLargeStacks, marks=pytest.mark.slow),
        pytest.param(L1WithTooManyBeside, marks=pytest.mark.slow),
    ],
)
def test_a_pack_that_runs_out_of_memory_is_divided(tmp_path: Path, method: type[L1]) -> None:
    """Five runs in one process, then two and three, of which the three become one and two."""
    target = f"sparsity._target_={__name__}.{method.__name__}"
    numbers = [0.001, 0.002, 0.003, 0.004, 0.005]
    specs = [spec(tmp_path / f"member-{c}", "sparsity=l1", target, f"sparsity.coefficient={c}") for c in numbers]
    facts = specs[0].build().packable
    LocalLauncher(n_jobs=1, pack=5).launch([each._replace(packable=facts) for each in specs])
    statuses = [Run(each.folder).status for each in specs]
    assert [(status.state, status.packed) for status in statuses] == [
        ("finished", 2),
        ("finished", 2),
        ("finished", 1),
        ("finished", 2),
        ("finished", 2),
    ]
    assert "out of memory with 5 runs in one process" in Run(specs[0].folder).log.read_text()


class L1WithoutMemory(L1):
    """A penalty for which no memory suffices."""

    def losses(self, forward: Any, network: Any) -> dict[str, torch.Tensor]:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def test_a_run_that_lacks_memory_alone_says_so(tmp_path: Path) -> None:
    alone = spec(tmp_path / "alone", "sparsity=l1", f"sparsity._target_={__name__}.L1WithoutMemory")
    with pytest.raises(MemoryError, match=r"out of memory \(RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED"):
        execute(alone.build(), {})
    status = Run(alone.folder).status
    assert status.state == "failed"
    assert str(status.error).startswith("out of memory (RuntimeError")


class L1ThatStopsItsSweep(L1):
    """A penalty that asks its sweep to stop, and for which memory does not suffice in a step of several models."""

    def __init__(self, *, stop_file: str, **options: Any) -> None:
        super().__init__(**options)
        self._stop_file = stop_file

    def losses(self, forward: Any, network: Any) -> dict[str, torch.Tensor]:
        if forward.z.dim() > 2 and forward.z.requires_grad:
            Path(self._stop_file).touch()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().losses(forward, network)


def test_runs_of_a_pack_that_is_not_divided_as_the_sweep_stops_say_why(tmp_path: Path) -> None:
    stop_file = tmp_path / "stop"
    own = ["sparsity=l1", f"sparsity._target_={__name__}.L1ThatStopsItsSweep", f"+sparsity.stop_file={stop_file}"]
    specs = [spec(tmp_path / str(c), *own, f"sparsity.coefficient={c}") for c in (0.001, 0.002)]
    run_isolated([each._replace(stop_file=stop_file) for each in specs])
    for each in specs:
        status = Run(each.folder).status
        assert (status.state, status.error) == ("interrupted", "out of memory with 2 runs in one process")


def test_programs_differ_where_a_step_does(tmp_path: Path) -> None:
    def program(*overrides: str) -> str:
        packable = spec(tmp_path, "sparsity=l1", *overrides).build().packable
        return str(packable and packable.program)

    assert program() == program("seed=3", "sparsity.coefficient=3", "optimizer.lr=1", "scheduler=cosine")
    others = ["model.latent_dim=16", "sparsity=kl", "model=linear", "data.batch_size=64", "trainer.max_epochs=3"]
    assert len({program(), *(program(override) for override in others)}) == 6
    for alone in ("compile=true", "data.transforms=[{_target_:torchvision.transforms.v2.RandomHorizontalFlip}]"):
        assert program(alone) == "None"


STEP = {
    "model.latent_dim": [16, 32],
    "sparsity": ["l1", "kl"],
    "model": ["mlp", "linear"],
    "data.batch_size": [64, 128],
    "trainer.max_epochs": [1, 2],
    "trainer.gradient_clip_val": ["null", 1.0],
}
"""Options that change what a step is."""
NUMBERS = {
    "seed": [1, 2],
    "sparsity.coefficient": [0.1, 1.0],
    "optimizer.lr": [0.001, 0.01],
    "optimizer": ["adam", "adamw"],
    "scheduler": ["none", "cosine"],
    "threads": [1, 2],
}
"""Options that change nothing but numbers."""


def chosen(options: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in options.items()})


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(chosen(STEP), chosen(STEP), chosen(NUMBERS), chosen(NUMBERS), st.booleans())
def test_runs_share_a_program_where_their_steps_differ_in_numbers_only(
    step: dict[str, Any], another: dict[str, Any], numbers: dict[str, Any], others: dict[str, Any], is_same: bool
) -> None:
    if is_same:
        another = step
    one, other = (
        spec(Path("unused"), *(f"{name}={value}" for name, value in overrides.items())).build().packable
        for overrides in ({**step, **numbers}, {**another, **others})
    )
    assert one is not None
    assert other is not None
    assert (one.program == other.program) == (step == another)
