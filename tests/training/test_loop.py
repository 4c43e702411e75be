"""Many steps in one call, against Lightning's own loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

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


def fitted(folder: Path, *overrides: str, callback: Callback | None = None) -> tuple[dict[str, Any], dict[str, float]]:
    """Last checkpoint and metrics of a run."""
    job = AutoencoderJob(plain_config(*SMALL, "visuals.every_n_epochs=100", *overrides), Run(folder))
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
        ["trainer.limit_train_batches=1.0", "data.batch_size=20000", "data.val_size=0"],
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
