"""Lightning's loop over the batches of an epoch, with all steps up to the next event in one call.

Around each step Lightning asks callbacks, loggers and plugins whether they have anything to do, which takes a tenth of
a small model's step. Where none of them looks at single steps, it is asked once for all of them.
"""

import inspect

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer import call

from sparse_ae.data import Batch
from sparse_ae.training.checkpointing import RunCheckpoint
from sparse_ae.training.fast import NoProfiler
from sparse_ae.training.health import Health
from sparse_ae.training.module import SparseAutoencoderModule, ours
from sparse_ae.training.progress import EpochBar

_HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_OURS = (RunCheckpoint, Health, EpochBar)
"""Callbacks with such hooks that may be told only of the first and the last of several steps."""
_PRECISIONS = (Precision, MixedPrecision, HalfPrecision, DoublePrecision)


class TrainingLoop(_TrainingEpochLoop):
    """Takes steps until something is due: a log, a validation, a checkpoint, the end of the epoch.

    Steps, and the counters in checkpoints, are those of Lightning to the last bit. Each step is Lightning's own with
    callbacks that look at steps, several devices, a profiler, accumulated gradients, a scaler of gradients, or an
    optimizer that computes the loss itself.
    """

    def __init__(self, trainer: Trainer, checkpoint: RunCheckpoint) -> None:
        """Take the place of the loop in ``trainer``, of which ``checkpoint`` is a callback."""
        replaced = trainer.fit_loop.epoch_loop
        super().__init__(trainer, min_steps=replaced.min_steps, max_steps=replaced.max_steps)
        self._checkpoint = checkpoint
        self._takes_many = False
        trainer.fit_loop.epoch_loop = self

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self._takes_many = type(data_fetcher) is _PrefetchDataFetcher and _nobody_looks_at_steps(self.trainer)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Take steps until something is due."""
        validation_is_left = self.restarting and self._should_check_val_fx(data_fetcher)
        if validation_is_left or not self._takes_many:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        trainer, module = self.trainer, ours(self.trainer.lightning_module)
        batch, number = self._next(data_fetcher), self.batch_idx + 1
        trainer._logger_connector.on_batch_start(batch)
        call._call_callback_hooks(trainer, "on_train_batch_start", batch, number)
        self._step(module, batch, number)
        while not self._is_due(module, data_fetcher):
            self.batch_progress.increment_completed()
            self._batches_that_stepped += 1
            batch, number = self._next(data_fetcher), self.batch_idx + 1
            self._step(module, batch, number)
        if module.is_log_due:
            module.log_training(self.global_step)
        call._call_callback_hooks(trainer, "on_train_batch_end", None, batch, number)
        trainer._logger_connector.on_batch_end()
        self.batch_progress.increment_completed()

    def _next(self, data_fetcher: _DataFetcher) -> Batch:
        trainer = self.trainer
        batch, _, _ = next(data_fetcher)
        self.batch_progress.is_last_batch = data_fetcher.done
        batch = trainer.precision_plugin.convert_input(batch)
        moved: Batch = call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)
        return moved

    def _step(self, module: SparseAutoencoderModule, batch: Batch, number: int) -> None:
        trainer, optimizer = self.trainer, self.trainer.optimizers[0]
        progress = self.automatic_optimization.optim_progress.optimizer
        self.batch_progress.increment_ready()
        self.batch_progress.increment_started()
        module.on_train_batch_start(batch, number)
        progress.step.increment_ready()
        with trainer.precision_plugin.train_step_context():
            loss = module.training_step(batch, number)
        progress.zero_grad.increment_ready()
        progress.zero_grad.increment_started()
        module.optimizer_zero_grad(trainer.current_epoch, number, optimizer)
        progress.zero_grad.increment_completed()
        loss.backward()
        module.on_after_backward()
        limit = trainer.gradient_clip_val
        if limit:
            call._call_callback_hooks(trainer, "on_before_optimizer_step", optimizer)
        module.on_before_optimizer_step(optimizer)
        if limit:
            module.configure_gradient_clipping(optimizer, limit, trainer.gradient_clip_algorithm)
        optimizer.step()
        module.objective.on_step_end_()
        progress.step.increment_completed()
        self.batch_progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)

    def _is_due(self, module: SparseAutoencoderModule, data_fetcher: _DataFetcher) -> bool:
        is_left = not self._is_training_done and not self._should_check_val_fx(data_fetcher)
        return not is_left or module.is_log_due or self._checkpoint.is_due


def _nobody_looks_at_steps(trainer: Trainer) -> bool:
    """True if all that happens in a step is known."""
    precision, optimizer = trainer.precision_plugin, trainer.optimizers[0]
    return (
        type(trainer.lightning_module) is SparseAutoencoderModule
        and type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.profiler) is NoProfiler  # type: ignore[attr-defined]
        and type(precision) in _PRECISIONS
        and getattr(precision, "scaler", None) is None
        and trainer.accumulate_grad_batches == 1
        and inspect.signature(optimizer.step).parameters["closure"].default is None
        and not any(_looks_at_steps(callback) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    )


def _looks_at_steps(callback: Callback) -> bool:
    if type(callback) in _OURS:
        return False
    return any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in _HOOKS_OF_A_STEP)
