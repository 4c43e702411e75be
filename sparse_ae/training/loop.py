"""Lightning's loop over the batches of an epoch, with all steps up to the next event in one call.

Around each step Lightning asks callbacks, loggers and plugins whether they have anything to do, which takes a tenth of
a small model's step. Where none of them looks at single steps, it is asked once for all of them.
"""

import inspect
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer import call
from torch.optim import Optimizer

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
    optimizer that is not PyTorch's or computes the loss itself.
    """

    def __init__(self, trainer: Trainer, checkpoint: RunCheckpoint) -> None:
        """Take the place of the loop in ``trainer``, of which ``checkpoint`` is a callback."""
        replaced = trainer.fit_loop.epoch_loop
        super().__init__(trainer, min_steps=replaced.min_steps, max_steps=replaced.max_steps)
        self.checkpoint = checkpoint
        self.take_steps: Callable[[], None] = self.take_steps_alone
        """Takes steps until something is due."""
        self._takes_many = False
        self._fetcher: Any = None
        self._left_out = 0
        trainer.fit_loop.epoch_loop = self

    @property
    def module(self) -> SparseAutoencoderModule:
        """Module in training."""
        return ours(self.trainer.lightning_module)

    @property
    def is_due(self) -> bool:
        """True if something is to be done before the next step."""
        stops = self.trainer.should_stop and self.trainer.fit_loop._can_stop_early
        ends = self._is_training_done or stops or self._should_check_val_fx(self._fetcher)
        return ends or self.module.is_log_due or self.checkpoint.is_due

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self._fetcher, self._left_out = data_fetcher, 0
        known = nobody_looks_at_steps(self.trainer, self.trainer.lightning_module, self.trainer.optimizers[0])
        self._takes_many = known and type(data_fetcher) is _PrefetchDataFetcher

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Take steps until something is due."""
        validation_is_left = self.restarting and self._should_check_val_fx(data_fetcher)
        if validation_is_left or not self._takes_many:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        trainer = self.trainer
        trainer._logger_connector.on_batch_start(None)
        call._call_callback_hooks(trainer, "on_train_batch_start", None, self.batch_idx + 1)
        self.take_steps()
        if self.module.is_log_due:
            self.module.log_training(self.global_step)
        call._call_callback_hooks(trainer, "on_train_batch_end", None, None, self.batch_idx)
        trainer._logger_connector.on_batch_end()
        self.batch_progress.increment_completed()

    def take_steps_alone(self) -> None:
        """Take steps of this run by itself."""
        module, precision = self.module, self.trainer.precision_plugin
        while True:
            batch = self.next_batch()
            self.begin_step()
            with precision.train_step_context():
                loss = module.training_step(batch, self.batch_idx)
            module.optimizer_zero_grad(self.trainer.current_epoch, self.batch_idx, self.trainer.optimizers[0])
            loss.backward()
            module.on_after_backward()
            self.look_at_gradients()
            module.objective.on_before_optimizer_step_()
            self.clip_gradients()
            self.trainer.optimizers[0].step()
            module.objective.on_step_end_()
            self.end_step()
            if self.is_due:
                return
            self.pass_on()

    # Parts of a step, in their order.

    def next_batch(self) -> Batch:
        """Return the next batch of the epoch, on the device."""
        fetcher = self._fetcher
        for _ in range(self._left_out):
            next(fetcher.iterator)
        self._left_out = 0
        batch, _, _ = next(fetcher)
        self.batch_progress.is_last_batch = fetcher.done
        batch = self.trainer.precision_plugin.convert_input(batch)
        moved: Batch = call._call_strategy_hook(self.trainer, "batch_to_device", batch, dataloader_idx=0)
        return moved

    def leave_out_batch(self) -> None:
        """Count the next batch as used, which another run with the same batches has read."""
        fetcher = self._fetcher
        self._left_out += 1
        fetcher.fetched += 1
        fetcher.done = fetcher.fetched >= fetcher.length
        self.batch_progress.is_last_batch = fetcher.done

    def begin_step(self) -> None:
        """Apply schedules."""
        self.batch_progress.increment_ready()
        self.batch_progress.increment_started()
        self.module.on_train_batch_start(None, self.batch_idx)
        self.automatic_optimization.optim_progress.optimizer.step.increment_ready()

    def look_at_gradients(self) -> None:
        """Let callbacks see gradients that are about to be clipped."""
        if self.trainer.gradient_clip_val:
            call._call_callback_hooks(self.trainer, "on_before_optimizer_step", self.trainer.optimizers[0])

    def clip_gradients(self) -> None:
        """Clip gradients, if that is asked for."""
        trainer = self.trainer
        if trainer.gradient_clip_val:
            self.module.configure_gradient_clipping(
                trainer.optimizers[0], trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )

    def end_step(self) -> None:
        """Count the step, and set the next learning rate."""
        progress = self.automatic_optimization.optim_progress.optimizer
        progress.zero_grad.increment_ready()
        progress.zero_grad.increment_started()
        progress.zero_grad.increment_completed()
        progress.step.increment_completed()
        self.batch_progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)

    def pass_on(self) -> None:
        """Go on to the next step, because nothing is due."""
        self.batch_progress.increment_completed()
        self._batches_that_stepped += 1


def nobody_looks_at_steps(trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> bool:
    """True if all that happens in a step of ``module`` is known, so that ``TrainingLoop`` can take many at once."""
    precision = trainer.precision_plugin
    return (
        type(module) is SparseAutoencoderModule
        and type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.profiler) is NoProfiler  # type: ignore[attr-defined]
        and type(precision) in _PRECISIONS
        and getattr(precision, "scaler", None) is None
        and trainer.accumulate_grad_batches == 1
        and _steps_without_closure(optimizer)
        and not any(_looks_at_steps(callback) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    )


def _steps_without_closure(optimizer: Optimizer) -> bool:
    """True for optimizers of PyTorch but LBFGS; what another one does with a closure is not known."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return type(optimizer).__module__.startswith("torch.optim.") and closure is not None and closure.default is None


def _looks_at_steps(callback: Callback) -> bool:
    if type(callback) in _OURS:
        return False
    # Those of the instance, as a LambdaCallback has them.
    own = {name: getattr(getattr(callback, name), "__func__", None) for name in _HOOKS_OF_A_STEP}
    return any(hook is not getattr(Callback, name) for name, hook in own.items())
