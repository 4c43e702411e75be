"""Many steps in one call, against Lightning's own loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback

from sparse_ae.data.loader import ResidentLoader
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.training.loop import TrainingLoop
from tests.helpers import SMALL, plain_config


class Looker(Callback):
    """Callback of a user's that wants to see each batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch_idx)


def small_job(folder: Path, *overrides: str) -> AutoencoderJob:
    return AutoencoderJob(plain_config(*SMALL, "visuals.every_n_epochs=100", *overrides), Run(folder))


def fitted(folder: Path, *overrides: str, callback: Callback | None = None) -> tuple[dict[str, Any], dict[str, float]]:
    """Last checkpoint and metrics of a run."""
    job = small_job(folder, *overrides)
    if callback is not None:
        job.trainer.callbacks.insert(0, callback)
    job.trainer.fit(job.module, datamodule=job.data)
    loop = job.trainer.fit_loop.epoch_loop
    assert isinstance(loop, TrainingLoop)
    assert loop._takes_many == (callback is None)
    return read_checkpoint(folder / "checkpoints" / "last.ckpt"), job.module.results


def assert_same(a: Any, b: Any, place: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    elif isinstance(a, Mapping):
        assert list(a) == list(b), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, Sequence) and not isinstance(a, str):
        assert len(a) == len(b), place
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}.{i}")
    else:
        assert a == b, place


@pytest.mark.parametrize(
    "overrides",
    [
        ["scheduler=cosine", "trainer.gradient_clip_val=0.1", "+trainer.val_check_interval=8"],
        [
            "trainer.max_steps=27",
            "trainer.gradient_clip_val=1e-3",
            "trainer.gradient_clip_algorithm=value",
            "trainer.log_every_n_steps=7",
            "model=linear",
            "sparsity=topk",
            "dead=auxk",
        ],
        ["trainer.precision=bf16-mixed", "trainer.log_every_n_steps=1"],
        pytest.param(
            ["trainer.limit_train_batches=1.0", "data.batch_size=20000", "data.val_size=0"], marks=pytest.mark.slow
        ),
        ["target=l0", "target.value=8", "sparsity=jumprelu", "model=linear", "trainer.check_val_every_n_epoch=2"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_steps_and_counters_are_those_of_lightning(tmp_path: Path, overrides: list[str]) -> None:
    looker = Looker()
    theirs, their_results = fitted(tmp_path / "theirs", *overrides, callback=looker)
    assert looker.batches[:3] == [0, 1, 2]
    ours, our_results = fitted(tmp_path / "ours", *overrides)
    for checkpoint in (ours, theirs):
        del checkpoint["logged"]  # the names of event files have the time
    assert_same(ours, theirs, "checkpoint")
    assert our_results == their_results


class OwnAdam(torch.optim.Adam):
    """Optimizer of a user's, whose step could be anything."""

    def step(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        return super().step(*arguments, **options)


def test_steps_that_are_not_known_are_lightnings(tmp_path: Path) -> None:
    seen: list[int] = []
    lambdas = LambdaCallback(on_train_batch_end=lambda *arguments: seen.append(arguments[4]))
    for name, overrides, callback in (
        ("lambda", [], lambdas),
        ("optimizer", [f"optimizer._target_={__name__}.OwnAdam"], None),
        ("accumulates", ["trainer.accumulate_grad_batches=2"], None),
    ):
        job = small_job(tmp_path / name, "trainer.max_epochs=1", "trainer.limit_train_batches=4", *overrides)
        if callback is not None:
            job.trainer.callbacks.insert(0, callback)
        job.trainer.fit(job.module, datamodule=job.data)
        assert not job.trainer.fit_loop.epoch_loop._takes_many, name
    assert seen == [0, 1, 2, 3]


def test_training_stops_at_the_step_that_lightning_stops_at(tmp_path: Path) -> None:
    """With ``min_steps``, a wish to stop is granted in the middle of a later epoch."""

    class Stops(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.should_stop = True

    job = small_job(tmp_path, "data.val_size=0", "+trainer.min_steps=27", "trainer.max_epochs=3")
    job.trainer.callbacks.insert(0, Stops())
    job.trainer.fit(job.module, datamodule=job.data)
    assert job.trainer.fit_loop.epoch_loop._takes_many
    assert job.trainer.global_step == 27


def test_a_batch_that_cannot_be_read_leaves_a_checkpoint_of_the_step_before(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    iterate = ResidentLoader.chunks

    def failing(self: ResidentLoader) -> Any:
        for number, chunk in enumerate(iterate(self)):
            if number == 7:
                raise OSError("gone")
            yield chunk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResidentLoader, "chunks", failing)
        with pytest.raises(OSError, match="gone"):
            job.trainer.fit(job.module, datamodule=job.data)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 7
