"""Schedules: of the learning rate, and of whatever in the objective follows training."""

import math
from typing import Annotated, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from pydantic import Field, NonNegativeInt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sparse_ae.training.module import SparseAutoencoderModule

Share = Annotated[float, Field(ge=0, le=1)]


def cosine(optimizer: Optimizer, *, total_steps: int, final_share: Share) -> LambdaLR:
    """lr(t) = lr * (f + (1 - f) (1 + cos(pi t / T)) / 2), with f = ``final_share``, T = ``total_steps``."""

    def factor(step: int) -> float:
        progress = min(1.0, step / total_steps)
        return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def warmup_linear(
    optimizer: Optimizer, *, total_steps: int, warmup_steps: NonNegativeInt, final_share: Share
) -> LambdaLR:
    """lr rises linearly over ``warmup_steps``, then falls linearly to ``final_share`` of it at ``total_steps``."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1 - (1 - final_share) * progress

    return LambdaLR(optimizer, factor)


class ObjectiveSchedule(Callback):
    """Keeps the objective in step with training: its schedules before each step, its method and target after each
    validation.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, SparseAutoencoderModule)
        if pl_module.objective.is_scheduled:
            pl_module.objective.schedule_(trainer.global_step, pl_module.total_steps())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SparseAutoencoderModule)
        if not trainer.sanity_checking:
            pl_module.objective.validated_(pl_module.results)
