"""A run that is stopped or killed at any moment and goes on ends as the one that was left alone: the same weights and
metrics to the last bit, and the same TensorBoard records in the same order.
"""

import os
import pickle
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from sparse_ae.jobs import Experiment
from sparse_ae.jobs import execute as job
from sparse_ae.runs.checkpoint import read_checkpoint, write_checkpoint
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import CheckpointError, RunError
from sparse_ae.training.resume import ResumeState
from sparse_ae.training.stop import Stopped
from tests.events import logged
from tests.helpers import train_run
from tests.processes import command, start, wait_until

ALWAYS = "checkpoint.every_n_minutes=1e-9"  # after every step
SHORT = [
    "trainer.max_epochs=3",
    "trainer.limit_train_batches=8",
    "trainer.log_every_n_steps=3",
    "visuals.every_n_epochs=2",
    "scheduler=cosine",
    "analysis=[]",
    "trainer.enable_progress_bar=false",
    "threads=1",
    "model.latent_dim=16",
    "data.batch_size=32",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
]
WARMUP = "sparsity.warmup_steps=12"


def assert_same(run: Run, whole: Run) -> None:
    assert run.read_state() == whole.state == "finished"
    assert run.weights.read_bytes() == whole.weights.read_bytes()
    assert run.metrics == whole.metrics
    assert logged(run.path) == logged(whole.path)


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callback], None]]:
    """Add a callback, after all of ours, to the next run that is trained in this process."""
    original, callbacks = job.assemble, []

    def assemble(*arguments: Any) -> Experiment:
        experiment = original(*arguments)
        while callbacks:
            experiment.trainer.callbacks.append(callbacks.pop())
        return experiment

    monkeypatch.setattr(job, "assemble", assemble)
    yield callbacks.append
    assert not callbacks


class PowerCut(BaseException):
    """Nothing of ours handles it: what is not on disk is lost."""


class CrashAt(Callback):
    """Raise after a step, or in its middle."""

    def __init__(self, step: int, error: type[BaseException], *, in_the_middle: bool = False) -> None:
        self.step = step
        self.error = error
        self.in_the_middle = in_the_middle

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if not self.in_the_middle and trainer.global_step == self.step:
            raise self.error("crash")

    def on_before_optimizer_step(self, trainer: Trainer, *_: object) -> None:
        if self.in_the_middle and trainer.global_step == self.step - 1:
            raise self.error("crash")


def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    """Real SIGKILLs, each attempt a process of its own, in training, validation, saving, logging, testing."""
    overrides = [
        *SHORT,
        WARMUP,
        "trainer.max_epochs=20",
        "trainer.limit_train_batches=30",
        "checkpoint.every_n_minutes=0.001",
    ]
    whole, half = Run(tmp_path / "whole"), Run(tmp_path / "half")
    start(whole.path, *overrides).join()
    seconds = whole.status.wall_seconds
    moments = random.Random(0)
    kills = 0
    while kills < 20:
        attempts = half.status.attempts
        process = start(half.path, *overrides)
        wait_until(lambda: half.status.attempts > attempts or process.exitcode is not None)  # noqa: B023
        process.join(moments.uniform(0, seconds / 5))
        process.kill()
        process.join()
        if half.state == "finished":  # sooner than the kills: once more from the start
            assert_same(half, whole)
            half = Run(tmp_path / f"half{kills}")
        else:
            assert half.state == ("interrupted" if half.status else "new")
            kills += 1
    start(half.path, *overrides).join()
    assert_same(half, whole)


VARIANTS: dict[str, list[str]] = {
    "plain": [WARMUP],
    "max_steps": ["trainer.max_steps=20"],
    "accumulated": [WARMUP, "trainer.accumulate_grad_batches=2"],
    "workers and transforms": [
        "data.resident=false",
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
    "dead units started anew": [
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
    "one GPU": ["trainer=gpu", "trainer.deterministic=true"],
}
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[NEEDS_GPU] if "GPU" in name else []) for name in VARIANTS]
)
def test_a_power_cut_after_any_step(tmp_path: Path, crash: Callable[[Callback], None], variant: str) -> None:
    """In the middle of an epoch, before its last batch, after it, around a validation, and at the very end."""
    overrides = [*SHORT, ALWAYS, *VARIANTS[variant]]
    whole = train_run(tmp_path / "whole", *overrides)
    last = int(read_checkpoint(whole.last_checkpoint)["global_step"])
    for step in (3, last // 2 - 1, last // 2, last) if variant == "plain" else (last // 2 + 1, last):
        crash(CrashAt(step, PowerCut))
        with pytest.raises(PowerCut):
            train_run(tmp_path / f"after-{step}", *overrides)
        assert_same(train_run(tmp_path / f"after-{step}", *overrides), whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_stops_after_the_step_under_way_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    often = ["trainer.log_every_n_steps=1", "checkpoint.every_n_minutes=0.001"]
    overrides = [*SHORT, "trainer.max_epochs=2", "trainer.limit_train_batches=200", *often]
    run, whole = Run(tmp_path / "run"), Run(tmp_path / "whole")
    process = start(run.path, *overrides)
    wait_until(run.last_checkpoint.exists)
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == code
    assert run.read_state() == "interrupted"
    assert run.status.error == ("SIGTERM" if code == 143 else "Ctrl-C")
    step = read_checkpoint(run.last_checkpoint)["global_step"]
    assert step < 200, "it stopped only at the end of an epoch"
    assert max(record[1] for record in logged(run.path)) == step  # and no step was made after it
    start(run.path, *overrides).join()
    start(whole.path, *overrides).join()
    assert_same(run, whole)


def test_the_command_goes_on_by_itself_and_exits_as_shells_expect(tmp_path: Path) -> None:
    overrides = [*SHORT, "trainer.limit_train_batches=200", "hydra.run.dir=run"]
    overrides.remove("trainer.enable_progress_bar=false")
    run = Run(tmp_path / "run")
    process = command(tmp_path, *overrides)
    wait_until(run.last_checkpoint.exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    again = command(tmp_path, *overrides)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert out.startswith("run: goes on from last.ckpt (33% done)")
    assert run.status.attempts == 2


def test_two_ranks_stop_and_go_on_together(tmp_path: Path) -> None:
    ddp = [*SHORT, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.limit_train_batches=60"]
    run, whole = Run(tmp_path / "run"), Run(tmp_path / "whole")
    process = command(tmp_path, *ddp, "hydra.run.dir=run")
    wait_until(run.last_checkpoint.exists)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    for folder in ("run", "whole"):
        process = command(tmp_path, *ddp, f"hydra.run.dir={folder}")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert_same(run, whole)


def test_an_error_between_two_steps_loses_nothing_and_one_within_a_step_is_not_saved(
    tmp_path: Path, crash: Callable[[Callback], None]
) -> None:
    whole = train_run(tmp_path / "whole", *SHORT)
    for in_the_middle, saved in ((False, 13), (True, 8)):
        folder = tmp_path / f"crashed-{saved}"
        crash(CrashAt(13, RuntimeError, in_the_middle=in_the_middle))
        with pytest.raises(RuntimeError, match="crash"):
            train_run(folder, *SHORT)
        run = Run(folder)
        assert (run.read_state(), run.status.error) == (
            "failed",
            "RuntimeError: crash",
        )
        assert read_checkpoint(run.last_checkpoint)["global_step"] == saved
        assert_same(train_run(folder, *SHORT), whole)
        assert run.status.attempts == 2


def test_global_random_states_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(1))]  # noqa: NPY002

    state = ResumeState(None)  # type: ignore[arg-type]
    np.random.randn()  # noqa: NPY002  # leaves a second normal number in the state
    write_checkpoint(tmp_path / "state", {"event_sizes": {}, "state": state.state_dict()})
    expected = draw()
    assert draw() != expected
    state.load_state_dict(read_checkpoint(tmp_path / "state")["state"])
    state.on_train_start(None, None)  # type: ignore[arg-type]
    assert draw() == expected


class Bomb:
    """A pickle that writes a file when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("open('exploded', 'w').close()",))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def _bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def _sealed_bomb(path: Path) -> None:
    write_checkpoint(path, {"state_dict": Bomb(), "loops": {}})


DAMAGES = [_empty, _truncated, _flipped, _foreign, _bomb, _sealed_bomb]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A run that was interrupted, with a last checkpoint and one before it, and the same left alone."""
    folder = tmp_path_factory.mktemp("pair")
    whole = train_run(folder / "whole", *SHORT)
    with pytest.MonkeyPatch.context() as patch:
        original = job.assemble

        def assemble(*arguments: Any) -> Experiment:
            experiment = original(*arguments)
            experiment.trainer.callbacks.append(CrashAt(20, PowerCut))
            return experiment

        patch.setattr(job, "assemble", assemble)
        with pytest.raises(PowerCut):
            train_run(folder / "half", *SHORT)
    return whole, Run(folder / "half")


def _copy(run: Run, to: Path) -> Run:
    subprocess.run(["cp", "-a", run.path, to], check=True)
    return Run(to)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_last_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path,
    pair: tuple[Run, Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, half = pair[0], _copy(pair[1], tmp_path / "half")
    assert read_checkpoint(half.last_checkpoint)["global_step"] == 16
    assert read_checkpoint(half.previous_checkpoint)["global_step"] == 8
    half.last_checkpoint.unlink()  # a file of its own, not another name of the best one
    half.last_checkpoint.write_bytes(pair[1].last_checkpoint.read_bytes())
    damage(half.last_checkpoint)
    assert_same(train_run(half.path, *SHORT), whole)
    out = capsys.readouterr().out
    assert "last.ckpt" in out
    assert "the checkpoint before it is used" in out
    assert not Path("exploded").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_unopened(
    tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "copy.ckpt"
    path.write_bytes(pair[1].last_checkpoint.read_bytes())
    damage(path)
    with pytest.raises(CheckpointError, match=r"copy\.ckpt: (is|cannot)"):
        read_checkpoint(path)
    assert not Path("exploded").exists()


def test_nothing_intact_is_left(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    half = _copy(pair[1], tmp_path / "half")
    for path in (half.last_checkpoint, half.previous_checkpoint):
        path.unlink()
        _empty(path)
    with pytest.raises(RunError, match=r"last\.ckpt: .*previous\.ckpt: .*\(allowed: rerun=all to start over\)"):
        train_run(half.path, *SHORT)
    assert train_run(half.path, *SHORT, "rerun=all").weights.read_bytes() == pair[0].weights.read_bytes()


@contextmanager
def quota(size: int) -> Iterator[None]:
    """The operating system lets no file of more than ``size`` bytes be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_fails_the_run_and_leaves_the_one_before(
    tmp_path: Path, pair: tuple[Run, Run]
) -> None:
    half = _copy(pair[1], tmp_path / "half")
    with quota(200_000), pytest.raises(OSError, match="File too large"):
        train_run(half.path, *SHORT)
    assert (half.state, "File too large" in half.status.error) == ("failed", True)
    assert read_checkpoint(half.last_checkpoint)["global_step"] == 16
    assert not list(half.last_checkpoint.parent.glob(".last*"))
    assert_same(train_run(half.path, *SHORT), pair[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint and the temporary half of another."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_fails_the_run_loudly_with_the_checkpoints_intact(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        train_run(small_disk / "run", *SHORT)
    run = Run(small_disk / "run")
    assert (run.read_state(), "No space left on device" in run.status.error) == ("failed", True)
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 8
    roomy = _copy(run, tmp_path / "roomy")
    assert_same(train_run(roomy.path, *SHORT), train_run(tmp_path / "whole", *SHORT))


def test_a_save_that_fails_after_a_fallback_still_leaves_an_intact_checkpoint(
    tmp_path: Path, pair: tuple[Run, Run]
) -> None:
    half = _copy(pair[1], tmp_path / "half")
    half.last_checkpoint.unlink()
    _empty(half.last_checkpoint)
    with quota(200_000), pytest.raises(OSError, match="File too large"):
        train_run(half.path, *SHORT)
    assert_same(train_run(half.path, *SHORT), pair[0])


def test_a_kill_between_the_save_and_the_link_loses_no_best_checkpoint(
    tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparse_ae.training import checkpoints

    real = checkpoints.link

    def killed(path: Path, name: Path) -> None:
        if name.name == "best.ckpt":
            raise PowerCut
        real(path, name)

    overrides = [*SHORT, "checkpoint.mode=max"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "link", killed)
        with pytest.raises(PowerCut):
            train_run(tmp_path / "half", *overrides)
    half, whole = train_run(tmp_path / "half", *overrides), train_run(tmp_path / "whole", *overrides)
    steps = [read_checkpoint(run.best_checkpoint)["global_step"] for run in (half, whole)]
    assert steps[0] == steps[1]


def test_a_run_stopped_before_it_began_begins_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(job, "starting_point", stopped)
        with pytest.raises(Stopped):
            train_run(tmp_path / "run", *SHORT)
    assert Run(tmp_path / "run").read_state() == "interrupted"
    assert train_run(tmp_path / "run", *SHORT).state == "finished"


def test_a_run_that_begins_where_another_ended_measures_for_itself(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    """It takes over neither what was the parent's best nor what the parent measured with another threshold."""
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
