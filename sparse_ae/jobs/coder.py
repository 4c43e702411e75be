"""Job of one classical coder: from a composed config to the coder, its checkpoints and its metrics."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import psutil
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.atomic import link
from sparse_ae.coders import DictionaryCoder, IterativeLearner, Learner
from sparse_ae.config.build import build, check_config, check_selected, with_defaults
from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.data import Split, usable_device
from sparse_ae.jobs.base import Job, StartingPoint, check_analyses
from sparse_ae.jobs.memory import check_bytes
from sparse_ae.loggers import Loggers
from sparse_ae.metrics import CodeMetrics, evaluate
from sparse_ae.run.checkpoint import read_checkpoint, write_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.run.export import save_coder
from sparse_ae.training.devices import set_rank
from sparse_ae.training.process import tune_process
from sparse_ae.training.progress import FitProgress
from sparse_ae.training.stop import StopSignals


class Settings(NamedTuple):
    """Scalars of the config's top level; everything else in it belongs to a constructor."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    active_threshold: NonNegativeFloat
    threads: PositiveInt | None
    rerun: Literal["all", "failed", "none"]
    fail_fast: bool


class CoderJob(Job):
    """Data and a learner, and the coder that it learns. Stopped at once, it loses at most an epoch."""

    def __init__(self, config: Mapping[str, Any], run: Run) -> None:
        """Build data and learner. Raises ``ConfigError`` for every mistake in ``config``."""
        self.config, self.run, self.stop = config, run, StopSignals()
        of_several = {
            "analysis": lambda: check_analyses(run, config),
            "logger": lambda: check_selected(config, "logger", ("run",)),
        }
        settings = check_config(Settings, {"data": (), "coder": ()}, config, of_several)
        self.active_threshold, self.rerun = settings.active_threshold, settings.rerun
        tune_process(settings.threads, "highest")
        set_rank(0)
        mistakes = Mistakes()
        with mistakes.collect():
            _check_data(config["data"])
        with mistakes.collect():
            self.device = _device(with_defaults(config["data"], "data"))
            self.data = build({**config["data"], "device": str(self.device)}, "data")
        with mistakes.collect():
            self.learner: Learner = build(config["coder"], "coder")
        with mistakes.collect():
            self.loggers = Loggers(config, run)
        mistakes.check()
        if "latent_dim" in config["coder"]:
            units = config["coder"]["latent_dim"]
            check_bytes("coder.latent_dim", units, 4 * units * self.data.input_dim)
        if isinstance(self.learner, nn.Module):
            self.learner.to(self.device)
        try:
            self.learner.check(self.data.train_size, self.data.input_dim)
            self.learner.attach(self.data)
        except ConfigError as error:
            raise error.under("coder") from error
        if self.learner.needs_rows:
            self._check_room()

    @property
    def units(self) -> int | None:
        return self.learner.units

    def fit_and_test(self, start: StartingPoint) -> None:
        """Fit to the training split; where it is done in epochs, with a checkpoint after each."""
        data = self.data
        data.prepare_data()
        if isinstance(self.learner, DictionaryCoder):  # on the atoms of another run, and so on its scale
            data.scale = self.learner.scale
        self.loggers.begin(self.options, start.logged)
        if isinstance(self.learner, DictionaryCoder):  # fitted, in a time of its own
            self.coder = self.learner
            self.run.record.note_progress(1.0)
        else:
            x = data.first("train", data.train_size if self.learner.needs_rows else 1).to(self.device)
            self.coder = self._fit(x, start).to(self.device)
            self.run.record.note_fitted()
        splits: tuple[Split, ...] = ("val", "test") if self.data.val_size else ("test",)
        self.results = {name: value for split in splits for name, value in self._measure(split).items()}
        self.loggers.log_metrics(self.results, step=getattr(self.learner, "epochs", 0))
        self.loggers.finish()

    def write_results(self) -> None:
        self.run.add_metrics(self.results)
        save_coder(self.run, self.in_units_of_data(self.coder))

    def _check_room(self) -> None:
        """Raise ``ConfigError`` if memory cannot hold the training rows as floats, and once more without their mean."""
        n, needed = self.data.train_size, 2 * 4 * self.data.train_size * self.data.input_dim
        if needed > (free := psutil.virtual_memory().available):
            reason = (
                f"{n:,} training rows take {needed / 2**30:,.0f} GiB of memory, and {free / 2**30:,.0f} GiB are free"
            )
            expected = "a larger data.val_size, which leaves fewer; sparse-ae-train reads them from disk"
            raise ConfigError("data", reason=reason, expected=expected)

    def _fit(self, x: Tensor, start: StartingPoint) -> DictionaryCoder:
        learner = self.learner
        if not isinstance(learner, IterativeLearner):
            return learner.fit(x)
        state = None
        if start.path is not None:
            saved = read_checkpoint(start.path, map_location=self.device)["learner"]
            state = learner.state_type(**saved)
        with FitProgress(learner.epochs, 0 if state is None else learner.progress(state)[0]) as progress:

            def after_epoch(state: Any) -> None:
                epoch, values = learner.progress(state)
                values = {f"train/{name}": value for name, value in values.items()}
                self.loggers.log_metrics(values, step=epoch)
                progress.tell(epoch, values)
                self._save(state)
                self.run.record.note_progress(epoch / learner.epochs)

            return learner.fit(x, state, after_epoch)

    def _save(self, state: Any) -> None:
        if self.run.last_checkpoint.exists():
            link(self.run.last_checkpoint, self.run.previous_checkpoint)
        saved = {"learner": state._asdict(), "logged": self.loggers.state_dict()}
        write_checkpoint(self.run.last_checkpoint, saved)

    def _measure(self, split: Split) -> dict[str, float]:
        metrics = CodeMetrics(
            mean=self.data.train_mean,
            latent_dim=self.coder.latent_dim,
            threshold=self.active_threshold,
            unit=self.data.scale.unit,
        )
        values = evaluate(self.coder, self.data.eval_dataloader(split), metrics.to(self.device))
        return {f"{split}/{name}": value for name, value in values.items()}


def _device(data: Mapping[str, Any]) -> torch.device:
    try:
        return usable_device(data["device"])
    except ConfigError as error:
        raise error.under("data") from error


def _check_data(data: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for augmentation: coders learn from the images as they are."""
    mistakes = Mistakes()
    for key, none in (("shift", "0"), ("transforms", "[]")):
        if data.get(key):
            mistakes.add(ConfigError(f"data.{key}", data[key], "a coder learns from the images as they are", none))
    mistakes.check()
