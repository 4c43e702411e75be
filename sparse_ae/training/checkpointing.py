"""Checkpoints: when they are written, and how Lightning reads and writes them."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from pydantic import PositiveFloat

from sparse_ae.atomic import link
from sparse_ae.config.errors import ConfigError
from sparse_ae.metrics import NAMES
from sparse_ae.run.checkpoint import read_checkpoint, write_checkpoint
from sparse_ae.run.errors import CheckpointError
from sparse_ae.training.losses import NonFiniteLossError
from sparse_ae.training.module import ours
from sparse_ae.training.stop import StopSignals


class SealedCheckpointIO(TorchCheckpointIO):
    """Lightning ``CheckpointIO`` on top of ``runs.checkpoint``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a sealed checkpoint; ``storage_options`` are for remote file systems and not used."""
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, _: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location)


_MUST_AGREE = ("model", "sparsity", "target", "dead", "optimizer", "scheduler")
"""Config groups that a checkpoint's tensors, coefficients and moments belong to; trainer and data may differ."""


def check_fits(path: Path, checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ``CheckpointError`` unless the checkpoint was trained with the model, method and optimizer of ``config``.

    Its buffers and moments would silently replace those that ``config`` asks for.
    """
    if "hyper_parameters" not in checkpoint:
        raise CheckpointError(str(path), reason="a classical coder's checkpoint", expected="one of sparse-ae-train")
    trained_with = checkpoint["hyper_parameters"].get("config", {})
    for section in _MUST_AGREE:
        saved, wanted = trained_with.get(section) or {}, config.get(section) or {}
        for key in [*wanted, *saved]:
            if saved.get(key) != wanted.get(key):
                reason = f"trained with {section}.{key}={saved.get(key)}, but {wanted.get(key)} is asked for"
                raise CheckpointError(str(path), reason=reason, expected=f"the same {', '.join(_MUST_AGREE)}")


def _evaluation_follows(trainer: Trainer) -> bool:
    """True if validation or the end of the epoch comes next: Lightning would skip them if it resumed here."""
    epoch_loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return epoch_loop._is_training_done or epoch_loop._should_check_val_fx(fetcher)


class RunCheckpoint(Checkpoint):
    """Writes the checkpoints of a run, each of a moment between two optimizer steps.

    - ``last.ckpt``: at the end of every epoch, every ``every_n_minutes`` in between, and when the run is asked to stop
      or fails between two steps.
    - ``previous.ckpt``: the ``last.ckpt`` before it.
    - ``best.ckpt``: the checkpoint with the best ``monitor`` so far; ties keep the earlier one. Needs epochs that end
      with a validation.

    ``previous`` and ``best`` are hard links. A run resumed from any of them ends with the same bytes. Lightning runs
    this callback after every other, so that no state which fails a check is saved. Raises ``ConfigError`` for a metric
    that no validation logs.
    """

    def __init__(
        self,
        *,
        folder: Path,
        monitor: str = "val/mse",
        mode: Literal["min", "max"] = "min",
        every_n_minutes: PositiveFloat = 5.0,
        stop: StopSignals,
    ) -> None:
        metrics = [f"val/{name}" for name in NAMES]
        if monitor not in metrics:
            raise ConfigError("monitor", monitor, "not a validation metric", ", ".join(metrics))
        self.last = folder / "last.ckpt"
        self.previous = folder / "previous.ckpt"
        self.best = folder / "best.ckpt"
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.seconds = 60 * every_n_minutes
        self.stop = stop
        self.best_score: float | None = None
        self._is_best = False
        self._between_steps = self._in_steps = False
        self._saved_at = math.inf

    @property
    def is_due(self) -> bool:
        """True if the run is asked to stop, or has trained for ``every_n_minutes`` since the last checkpoint."""
        return self.stop.requested is not None or time.monotonic() - self._saved_at >= self.seconds

    def save_soon(self) -> None:
        """Save where the run could resume next, whatever the time."""
        self._saved_at = -math.inf

    def state_dict(self) -> dict[str, Any]:
        """Best value so far, and whether this checkpoint has it."""
        return {"best_score": self.best_score, "is_best": self._is_best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` saved."""
        self.best_score = state_dict["best_score"]
        self._is_best = state_dict["is_best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock. From here on a signal to stop waits for the end of a step."""
        self._saved_at = time.monotonic()
        self.stop.defer()
        if self._is_best and trainer.is_global_zero:  # the process may have been killed before linking
            link(Path(str(trainer.ckpt_path)), self.best)
        self._is_best = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._between_steps, self._in_steps = False, True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is due and a run could resume from here."""
        self._in_steps = False
        if (batch_idx + 1) % trainer.accumulate_grad_batches or _evaluation_follows(trainer):
            return
        stops, due = self.stop.requested is not None, self.is_due
        if trainer.world_size > 1:  # ranks have to save and stop after the same step
            if (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
                return
            stops, due = (trainer.strategy.reduce_boolean_decision(flag, all=False) for flag in (stops, due))
        if due:
            self._save(trainer, pl_module)
        if stops:
            self.stop.now()
        self._between_steps = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after the epoch's validation; as the best only if that measured these weights."""
        module = ours(pl_module)
        validated_now = module.evaluated_at.get("val") == trainer.global_step
        self._is_best = validated_now and self._improved(module.results.get(self.monitor))
        self._save(trainer, pl_module)
        if self._is_best and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            link(self.last, self.best)
        self._is_best = False
        if trainer.strategy.reduce_boolean_decision(self.stop.requested is not None, all=False):
            self.stop.now()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._between_steps = False
        self.stop.take_over()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop.take_over()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, unless the exception came from the middle of a step."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current
        between_steps = self._between_steps or (self._in_steps and batches.ready == batches.completed)
        whole = between_steps and trainer.world_size == 1
        if whole and isinstance(exception, Exception) and not isinstance(exception, NonFiniteLossError):
            self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._between_steps = False  # an exception while saving must not save again
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        ours(pl_module).check_finite()
        if trainer.is_global_zero and self.last.exists():
            link(self.last, self.previous)
        trainer.save_checkpoint(self.last)
        self._saved_at = time.monotonic()

    def _improved(self, score: float | None) -> bool:
        if score is None or not math.isfinite(score):
            return False
        if self.best_score is not None and self.sign * score >= self.sign * self.best_score:
            return False
        self.best_score = score
        return True
