"""LightningModule of sparse autoencoders: one objective, one optimizer, metrics per split."""

import logging
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Batch, DataModule
from sparse_ae.dead.base import Moment, broadcast_buffers, silent_units
from sparse_ae.functional import stream_seed
from sparse_ae.metrics import NAMES, CodeMetrics
from sparse_ae.models import SparseAutoencoder
from sparse_ae.run.naming import config_hash
from sparse_ae.sparsity import Loss, TrainingData
from sparse_ae.training.fast import FastLightningModule
from sparse_ae.training.losses import NonFiniteLossError, StepLosses, loss_values
from sparse_ae.training.objective import Objective
from sparse_ae.training.schedulers import MakeOptimizer, MakeScheduler, adam, make_optimizer, make_scheduler

log = logging.getLogger(__name__)

_SAMPLES = 10_000
"""Number of training images for data-dependent initialisation, for counting dead units and for resampling them."""


def ours(pl_module: LightningModule) -> "SparseAutoencoderModule":
    """Return ``pl_module``, as a callback gets it, with its own type."""
    assert isinstance(pl_module, SparseAutoencoderModule)
    return pl_module


class SparseAutoencoderModule(FastLightningModule):
    """Minimises an ``Objective``: reconstruction + sum_t coefficient_t * term_t.

    Losses and terms of every step stay on the device. Their means are logged every ``trainer.log_every_n_steps`` steps
    and at the end of an epoch, as ``train/loss``, ``train/recon`` and ``train/<term>``, the coefficient beside each
    term as ``train/<term>_coefficient``. They are checked then, too: NaN or infinity raises ``NonFiniteLossError``,
    before any checkpoint of that state can be written.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: MakeOptimizer = adam,
        scheduler: MakeScheduler | None = None,
        *,
        threshold: float = 0.1,
        seed: int = 42,
        compile_objective: bool = False,
        config: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """``optimizer(parameters)`` and ``scheduler(optimizer, total_steps=...)`` are called when training starts. A
        code is active above ``threshold``. ``seed`` determines the samples that dead units are counted on and resampled
        from. ``config``, plain containers, is only stored with each checkpoint.
        """
        super().__init__()
        self.objective = objective
        self._compute = torch.compile(objective.forward) if compile_objective else objective.forward
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.threshold = threshold
        self.seed = seed
        self.save_hyperparameters({"config": dict(config)}, logger=False)
        self.results: dict[str, float] = {}
        """Last value of every number that ``metrics.json`` will hold: training means, metrics of each split."""
        self.evaluated_at: dict[str, int] = {}
        """Step of each split's last evaluation."""
        self.has_begun = False
        """True once training began in this process, which one that resumes a trained run does not do."""
        self._loss: Loss | None = None
        self._losses = StepLosses(objective.coefficients)
        self._splits: dict[str, CodeMetrics] = {}
        self._returned: list[dict[str, Any]] = []
        self._total_steps = math.inf

    @property
    def model(self) -> SparseAutoencoder:
        """Autoencoder in training."""
        return self.objective.model

    @property
    def data(self) -> DataModule:
        """Data module of the trainer. Raises ``ConfigError`` for loaders alone, which tell neither mean nor size."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, DataModule):
            reason = "a loader alone does not tell the size and the mean of the data"
            raise ConfigError("datamodule", reason=reason, expected="a DataModule of sparse_ae.data, such as MNIST()")
        return data

    # Timeline of training, in the order of the calls. Lightning calls the hooks of callbacks before ours of that name.
    #
    #   setup                         objective.setup_: initialise from data; afterwards a resume restores its state
    #   on_train_start                ResumeState restores random generators; RunCheckpoint starts its clock
    #   on_train_epoch_start          first epoch: count dead units; later ones: bring them back
    #     on_train_batch_start        Health tells of units dead from the start; objective.on_step_start_: schedules
    #     training_step               objective(x, target): the loss and its terms
    #     on_after_backward           objective.on_backward_end_: thresholds, dead-unit counters, target
    #     on_before_optimizer_step    Health counts gradients to be clipped; objective.on_before_optimizer_step_
    #     optimizer_step              clip and step; objective.on_step_end_; log if due
    #     on_train_batch_end          RunCheckpoint saves or stops if due
    #   on_validation_start ... end   metrics of the split; objective.on_validation_end_: thresholds, target
    #   on_train_epoch_end            progress, Health and Visuals look; then RunCheckpoint saves, and links the best

    def setup(self, stage: str) -> None:
        if stage == "fit":
            sample = self.data.first("train", _SAMPLES)
            statistics = TrainingData(sample, self.data.train_mean, self.data.input_shape, self._samples_per_epoch)
            self.objective.setup_(statistics)

    def on_train_start(self) -> None:
        self.has_begun = True
        self._total_steps = self.total_steps()
        self._show(self.results)  # of before a resume

    @torch.no_grad()
    def on_train_epoch_start(self) -> None:
        """Count dead units before the first step, change weights at later epochs.

        Not at an epoch's end: the checkpoint written there is of what was validated.
        """
        if self.global_step == 0:
            self._count_dead_at_init()
        elif self.current_epoch:
            self.objective.dead.look_()
            broadcast_buffers(self)
            progress, generator = self.global_step / self._total_steps, self._epoch_generator()
            moment = Moment(self.current_epoch, progress, lambda: self._sample(generator), generator)
            replaced = self.objective.dead.on_epoch_start_(self.model, self.trainer.optimizers[0], moment)
            if replaced:
                log.info("epoch %d: %d dead units re-initialised", self.current_epoch + 1, replaced)

    def on_train_batch_start(self, batch: Batch | None, batch_idx: int) -> None:
        self.objective.on_step_start_(self.global_step, self._total_steps)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, target = batch
        loss = self._compute(x, target)
        self.note_losses(loss_values(loss))
        self._loss = loss
        return loss.loss

    def on_after_backward(self) -> None:
        assert self._loss is not None
        self.objective.on_backward_end_(self._loss)
        self._loss = None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.objective.on_before_optimizer_step_()

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step and re-apply constraints; afterwards the state is consistent and may be checkpointed."""
        super().optimizer_step(*arguments, **options)
        self.objective.on_step_end_()
        if self.is_log_due:
            self.log_training(step=self.global_step + 1)

    def on_validation_start(self) -> None:
        """Raise ``NonFiniteLossError`` before a diverged state reaches a metric or an image."""
        self.check_finite()

    def on_validation_epoch_start(self) -> None:
        self._start_metrics("val")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._splits["val"].code(self.model, batch.x, batch.target)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_validation_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.objective.on_validation_end_(self.results)
            self._return_metrics("val")

    def on_train_epoch_end(self) -> None:
        """Raise ``NonFiniteLossError`` before a diverged state that no validation has checked reaches a checkpoint."""
        self.check_finite()

    def on_test_epoch_start(self) -> None:
        self._start_metrics("test")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._splits["test"].code(self.model, batch.x, batch.target)

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def on_test_end(self) -> None:
        self._return_metrics("test")

    # Optimizer and length of training.

    def new_optimizer(self) -> Optimizer:
        """Build the optimizer of the model's parameters."""
        return make_optimizer(self.make_optimizer, self.model)

    def configure_optimizers(self) -> Any:
        optimizer = self.new_optimizer()
        if self.make_scheduler is None:
            return optimizer
        total_steps = self.total_steps()
        if not 0 < total_steps < math.inf:
            place, trainer = "trainer.max_epochs", self.trainer
            reason = f"a schedule needs an end and a step before it, and max_steps is {trainer.max_steps}"
            raise ConfigError(place, trainer.max_epochs, reason, "max_epochs or max_steps greater than 0")
        scheduler = make_scheduler(self.make_scheduler, optimizer, int(total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> float:
        """Number of optimizer steps of the whole training; infinite if it has no end.

        Lightning's own estimate starts to read the training data, before a resumed run knows its place in the epoch.
        """
        trainer, per_epoch = self.trainer, self._batches_per_epoch
        steps = math.inf if trainer.max_steps == -1 else float(trainer.max_steps)
        if trainer.max_epochs not in (None, -1):
            steps = min(steps, math.ceil(per_epoch / trainer.accumulate_grad_batches) * trainer.max_epochs)
        return steps

    @property
    def _batches_per_epoch(self) -> int:
        """Number of training batches of an epoch, per process."""
        limit, batches = self.trainer.limit_train_batches, self.data.train_batches
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    @property
    def _samples_per_epoch(self) -> int:
        """Number of training samples of an epoch, per process."""
        share = self.data.train_size // self.trainer.world_size
        return min(self._batches_per_epoch * self.data.batch_size, share)

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add results, and losses that are not logged yet."""
        checkpoint["measured"] = {
            "losses": self._losses.state_dict(),
            "results": dict(self.results),
            "evaluated_at": dict(self.evaluated_at),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what ``on_save_checkpoint`` added, unless another run measured it."""
        if not self.is_own(checkpoint):
            return
        measured = checkpoint["measured"]
        self._losses.load_state_dict(measured["losses"], self.device)
        self.results, self.evaluated_at = measured["results"], measured["evaluated_at"]

    def is_own(self, checkpoint: Mapping[str, Any]) -> bool:
        """True if this run wrote the checkpoint, False if it starts from another run's."""
        return config_hash(checkpoint["hyper_parameters"]["config"]) == config_hash(self.hparams["config"])

    # Measurements.

    def lifetime(self, split: str) -> Tensor | None:
        """Lifetime sparsity of each unit ``(N,)`` over the whole ``split``; None unless evaluated at this very step."""
        return self._splits[split].lifetime if self.evaluated_at.get(split) == self.global_step else None

    @property
    def training_means(self) -> dict[str, float]:
        """Last logged means of the loss and its parts; empty before the first."""
        names = [f"train/{name}" for name in self._losses.names]
        return {name: self.results[name] for name in names if name in self.results}

    def check_finite(self) -> None:
        """Raise ``NonFiniteLossError`` if a loss term since the last logged step, or a weight, is NaN or infinite."""
        self._losses.check()
        finite = torch.stack([p.isfinite().all() for p in self.parameters()]).all()
        if not finite:
            raise NonFiniteLossError("", reason=f"a weight is NaN or infinite at step {self.global_step}")

    @property
    def is_log_due(self) -> bool:
        """True if ``trainer.log_every_n_steps`` steps, or those of an epoch that has ended, are not logged yet."""
        return len(self._losses) >= self.trainer.log_every_n_steps or self.trainer.is_last_batch  # type: ignore[attr-defined]

    def note_losses(self, values: Tensor) -> None:
        """Keep the ``loss_values`` of the present step until they are logged."""
        self._losses.add(values, step=self.global_step + 1)

    def log_training(self, step: int) -> None:
        """Log means over the steps since the last call, up to ``step``; nothing else in a step waits for the device."""
        means = {f"train/{name}": mean for name, mean in self._losses.take_means().items()}
        coefficients = {f"train/{t}_coefficient": float(c) for t, c in self.objective.coefficients.items()}
        dead = self.objective.dead
        units = {"train/dead_units": int(dead.dead.sum()), "train/revived_units": int(dead.revived)}
        self._log(means | coefficients | units, step, keep=means | units)
        self.trainer.progress_bar_metrics.update(means)

    def _start_metrics(self, split: str) -> None:
        if split not in self._splits:
            self._splits[split] = CodeMetrics(
                mean=self.data.train_mean,
                latent_dim=self.model.network.latent_dim,
                threshold=self.threshold,
                unit=self.data.scale.unit,
            ).to(self.device)
        self._splits[split].reset()

    def _log_metrics(self, split: str) -> None:
        if self.trainer.sanity_checking:
            return
        self.evaluated_at[split] = self.global_step
        values = {f"{split}/{name}": value for name, value in self._splits[split].values().items()}
        self._log(values, self.global_step, keep=values)
        loop = self.trainer.test_loop if split == "test" else self.trainer.validate_loop
        self._returned = loop._logged_outputs

    def _return_metrics(self, split: str) -> None:
        """Let ``trainer.validate`` and ``test`` return and print the metrics of ``split``.

        Lightning has logged what it returns by now, and would log these a second time.
        """
        names = [f"{split}/{name}" for name in NAMES]
        for outputs in self._returned:
            outputs.update({name: self.trainer.callback_metrics[name] for name in names})

    def _log(self, values: Mapping[str, float], step: int, *, keep: Mapping[str, float]) -> None:
        """Log ``values``; keep those of ``keep`` in ``results``. ``self.log`` would log them one step early."""
        self.results.update(keep)
        self._show(values)
        for logger in self.loggers:
            logger.log_metrics(dict(values), step=step)

    def _show(self, values: Mapping[str, float]) -> None:
        """Put ``values`` where Lightning's callbacks, and users of its trainer, look for metrics."""
        metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        self.trainer.callback_metrics.update(metrics)
        self.trainer.logged_metrics.update(metrics)

    # Dead units.

    def _count_dead_at_init(self) -> None:
        """Log the number of units silent on all of 10,000 training images, coded in batches as training codes them."""
        batches = self._sample(self._epoch_generator()).split(self.data.batch_size)
        dead = {"train/dead_at_init": int(silent_units(self.model, batches).sum())}
        self._log(dead, step=0, keep=dead)

    def _epoch_generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, self.current_epoch))

    def _sample(self, generator: torch.Generator) -> Tensor:
        """Random training rows ``(B, D)``."""
        chosen = torch.randperm(self.data.train_size, generator=generator)[:_SAMPLES]
        return self.data.scaled(self.data.split("train").rows.take(chosen)).to(next(self.parameters()))
