"""Dead units while training: counted at the start, worked on between epochs."""

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from sparse_ae.data import to_unit_interval
from sparse_ae.data.order import stream_seed
from sparse_ae.dead.base import Moment
from sparse_ae.training.module import SparseAutoencoderModule

log = logging.getLogger(__name__)

_LOOK_EVERY = 50
"""Steps. Not the logging interval: logging must not change training."""
_SAMPLES = 10_000
"""So many training images say which units fire before training, and are what dead ones are started anew from."""


class DeadUnitsCallback(Callback):
    """Logs how many units are dead before the first step (``train/dead_at_init``: silent on all of 10,000 training
    images, coded in batches as training codes them), and gives ``DeadUnits.revive_`` its turn before every epoch but
    the first. ``train/dead_units`` and ``train/revived_units`` are logged with the losses.

    Not at an epoch's end: the checkpoint written there is of what was validated.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @torch.no_grad()
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count at the first, work on the weights at the others."""
        assert isinstance(pl_module, SparseAutoencoderModule)
        model, epoch = pl_module.model, trainer.current_epoch
        generator = torch.Generator().manual_seed(stream_seed(self.seed, epoch))
        if trainer.global_step == 0:
            batches = self._sample(pl_module, generator).split(pl_module.data.batch_size)
            fired = torch.stack([(model(x, x).z != 0).any(dim=0) for x in batches]).any(dim=0)
            dead = int((~fired).sum())
            pl_module.results["train/dead_at_init"] = dead
            if pl_module.logger is not None:
                pl_module.logger.log_metrics({"train/dead_at_init": dead}, step=0)
        elif epoch:
            pl_module.objective.dead.look_()
            _broadcast_buffers(pl_module)
            progress = trainer.global_step / pl_module.total_steps()
            moment = Moment(epoch, progress, lambda: self._sample(pl_module, generator), generator)
            replaced = pl_module.objective.dead.revive_(model, trainer.optimizers[0], moment)
            if replaced:
                log.info("epoch %d: %d dead units started anew", epoch + 1, replaced)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, SparseAutoencoderModule)
        if trainer.global_step % _LOOK_EVERY == 0:
            pl_module.objective.dead.look_()

    @staticmethod
    def _sample(pl_module: SparseAutoencoderModule, generator: torch.Generator) -> torch.Tensor:
        images = pl_module.data.split("train").x
        chosen = torch.randperm(len(images), generator=generator)[:_SAMPLES]
        return to_unit_interval(images[chosen.to(images.device)]).to(next(pl_module.parameters()))


def _broadcast_buffers(pl_module: SparseAutoencoderModule) -> None:
    """What each process of a distributed run followed of its own batches, as the first has it: units started anew from
    other codes would be other units, and nothing makes the weights of processes alike again.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in pl_module.buffers():
            torch.distributed.broadcast(buffer, src=0)
