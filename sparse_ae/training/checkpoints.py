"""Checkpoints that are whole or absent, and that cannot run code when read."""

import io
import math
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from sparse_ae.metrics import NAMES
from sparse_ae.runs import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Written whole or not at all; read with ``weights_only=True``, always."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Lightning's hook; ``storage_options`` are for remote file systems and not used."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(path, content.getbuffer())

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, _: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A training checkpoint as plain containers and tensors. Raises ``ValueError`` if it is missing, cannot be read or
    is something else.
    """
    if not path.is_file():
        raise ValueError(f"resume={path}: no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign pickles, which are refused below
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"resume={path}: cannot be read as a checkpoint ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "loops" not in checkpoint:
        raise ValueError(f"resume={path}: is no training checkpoint of sparse_ae")
    return checkpoint


_MUST_AGREE = ("model", "sparsity", "optimizer", "scheduler")
"""What a checkpoint's tensors, coefficients and moments belong to; the trainer and the data may differ."""


def check_fits(path: Path, checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless the checkpoint was trained with the model, method and optimizer of ``config``.

    Its buffers and moments would silently take the place of what ``config`` asks for.
    """
    trained_with = checkpoint.get("hyper_parameters", {}).get("config", {})
    for section in _MUST_AGREE:
        saved, wanted = trained_with.get(section) or {}, config.get(section) or {}
        for key in [*wanted, *saved]:
            if saved.get(key) != wanted.get(key):
                raise ValueError(
                    f"resume={path}: was trained with {section}.{key}={saved.get(key)}, "
                    f"and {wanted.get(key)} is asked for (allowed: the same {', '.join(_MUST_AGREE)})"
                )


class Checkpoints(Checkpoint):
    """``last.ckpt`` after every epoch, and ``best.ckpt``, a link to it, whenever ``monitor`` was never better.

    Lightning runs it after every other callback, so that no state which fails a check is saved. Without validation
    there is no ``best.ckpt``. Raises ``ValueError`` for a metric that no validation logs.
    """

    def __init__(self, *, folder: Path, monitor: str, mode: Literal["min", "max"], validates: bool) -> None:
        allowed = [f"val/{name}" for name in NAMES]
        if monitor not in allowed:
            raise ValueError(f"monitor={monitor}: is no validation metric (allowed: {', '.join(allowed)})")
        self.last = folder / "last.ckpt"
        self.best = folder / "best.ckpt"
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.validates = validates
        self.best_score: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, so that a resumed run goes on comparing with it."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` saved."""
        self.best_score = state_dict["best_score"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        improved = self._improved(trainer)
        trainer.save_checkpoint(self.last)
        if improved and trainer.is_global_zero:
            self._last_is_best()

    def _last_is_best(self) -> None:
        """One file under both names, until the next epoch renames another over ``last.ckpt``."""
        new = self.best.with_name(".best.ckpt")
        new.unlink(missing_ok=True)
        try:
            new.hardlink_to(self.last)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.last, new)
        new.replace(self.best)

    def _improved(self, trainer: Trainer) -> bool:
        score = trainer.callback_metrics.get(self.monitor) if self.validates else None
        if score is None or not math.isfinite(score):
            return False
        if self.best_score is not None and self.sign * float(score) >= self.sign * self.best_score:
            return False
        self.best_score = float(score)
        return True
