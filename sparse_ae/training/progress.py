"""Progress on the console: one line per epoch, and on a terminal a bar for the current epoch."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from sparse_ae.run.directory import Run
from sparse_ae.training.module import ours


class EpochBar(TQDMProgressBar):
    """Lightning's bar over training steps, redrawn every 50 of them; validation is too short for one of its own."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=50)

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        return {name: f"{value:.4g}" for name, value in ours(pl_module).training_means.items()}


class EpochLines(Callback):
    """Prints ``epoch 3/15  train/loss 0.0213  train/recon 0.0197  train/kl 0.16  val/mse 0.0191  1.6 s`` per epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()  # a run that resumes within an epoch does not start that epoch again

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = ours(pl_module)
        values, target = module.training_means, module.objective.target
        for name in ("val/mse", f"val/{target.measure}" if target else "val/population_sparsity"):
            if name in module.results:
                values[name] = module.results[name]
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        seconds = time.monotonic() - self._started
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        line = f"{epoch}  {numbers}  {seconds:.1f} s"
        tell(trainer, line)


def tell(trainer: Trainer, line: str) -> None:
    """Print a line on the console, above the bar if there is one."""
    bar = trainer.progress_bar_callback
    bar.print(line) if isinstance(bar, EpochBar) else print(line, flush=True)


class StatusProgress(Callback):
    """Records the share of training done in ``status.json`` after every epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.run.status.attempts:
            self.run.record.note_progress(trainer.global_step / ours(pl_module).total_steps())


class FitProgress:
    """Prints ``epoch 3/30  train/fvu 0.1354  3.4 s`` per epoch of a fit; inside ``with``, a bar on a terminal."""

    def __init__(self, epochs: int, done: int) -> None:
        self.epochs = epochs
        columns = ("epoch {task.completed}/{task.total}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, transient=True, disable=not sys.stdout.isatty())
        self._task = self._bar.add_task("", total=epochs, completed=done)
        self._started = time.monotonic()

    def __enter__(self) -> "FitProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, epoch: int, values: Mapping[str, float]) -> None:
        """Print the line of an epoch."""
        now = time.monotonic()
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"epoch {epoch}/{self.epochs}  {numbers}  {now - self._started:.1f} s", flush=True)
        self._bar.update(self._task, completed=epoch)
        self._started = now


def progress_callbacks(enabled: bool) -> list[Callback]:
    """Callbacks that show a run's progress on this console."""
    if not enabled:
        return []
    return [EpochBar(), EpochLines()] if sys.stdout.isatty() else [EpochLines()]
