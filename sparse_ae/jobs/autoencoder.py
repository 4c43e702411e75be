"""Job of one autoencoder: from a composed config to everything that takes part, and from there to results."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from hydra.utils import to_absolute_path
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, seed_everything
from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveInt, StrictBool, StrictStr
from torch.nn.modules.dropout import _DropoutNd

from sparse_ae.analysis.coefficient_path import path_figures
from sparse_ae.config.build import build, check_config, check_selected, with_defaults
from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.data.storage import choose_tier
from sparse_ae.jobs.base import Job, StartingPoint, check_analyses
from sparse_ae.jobs.callbacks import build_callbacks, check_watched, why_stopped
from sparse_ae.jobs.memory import check_memory
from sparse_ae.jobs.trainer_options import check_options, naming_the_options
from sparse_ae.loggers import Loggers
from sparse_ae.models import build_autoencoder
from sparse_ae.packing.packable import Packable
from sparse_ae.packing.program import program
from sparse_ae.reporting.console import shell_line, tell
from sparse_ae.run.checkpoint import read_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import CheckpointError, RunError
from sparse_ae.run.export import save_model
from sparse_ae.training.checkpointing import RunCheckpoint, SealedCheckpointIO, check_fits
from sparse_ae.training.devices import cluster_environment, set_rank, stopping_together
from sparse_ae.training.fast import NoProfiler
from sparse_ae.training.health import Health
from sparse_ae.training.loop import TrainingLoop, nobody_looks_at_steps
from sparse_ae.training.module import SparseAutoencoderModule
from sparse_ae.training.objective import Objective
from sparse_ae.training.process import prefer_onednn, tune_process
from sparse_ae.training.progress import EpochBar, StatusProgress, progress_callbacks
from sparse_ae.training.resume import ResumeState
from sparse_ae.training.schedulers import MakeOptimizer, MakeScheduler, make_optimizer, make_scheduler
from sparse_ae.training.stop import StopSignals


def _not_false(resume: bool | str | None) -> bool | str | None:
    """A run that has begun is resumed in any case, so that true says nothing new and false cannot be had."""
    if resume is False:
        raise ValueError("a run that has begun is resumed; rerun=all starts it over")
    return resume


class Settings(NamedTuple):
    """Scalars of the config's top level; everything else in it belongs to a constructor."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    active_threshold: NonNegativeFloat
    compile: bool
    matmul_precision: Literal["highest", "high", "medium"]
    threads: PositiveInt | None
    resume: Annotated[StrictBool | StrictStr | None, AfterValidator(_not_false)]
    rerun: Literal["all", "failed", "none"]
    fail_fast: bool


_GROUPS: dict[str, tuple[str, ...]] = {
    "data": (),
    "model": ("input_dim",),
    "sparsity": ("latent_dim",),
    "target": (),
    "dead": ("latent_dim",),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "total_steps"),
    "trainer": ("logger", "callbacks", "plugins", "default_root_dir"),
    "checkpoint": ("folder", "stop"),
    "visuals": (),
}
"""Groups of the config, and the arguments that the framework supplies to the constructor of each."""

_FORMS = 8
"""Arrays of the size of a batch, or of its codes, that a step holds at a time."""

_HALF = ("bf16-true", "16-true")
"""Precisions that keep every buffer in 16 bits."""
_WHOLE = "32-true, 64-true, bf16-mixed, 16-mixed"


class AutoencoderJob(Job):
    """Data, module and trainer of one run."""

    def __init__(self, config: Mapping[str, Any], run: Run) -> None:
        """Build every part, for ``run``'s folder. Raises ``ConfigError`` for every mistake in ``config``."""
        self.config, self.run, self.stop = config, run, StopSignals()
        of_several = {
            "analysis": lambda: check_analyses(run, config),
            "callbacks": lambda: check_selected(config, "callbacks"),
            "logger": lambda: check_selected(config, "logger", ("run",)),
        }
        self.settings = settings = check_config(Settings, _GROUPS, config, of_several)
        self.active_threshold, self.rerun = settings.active_threshold, settings.rerun
        tune_process(settings.threads, settings.matmul_precision)
        prefer_onednn()
        seed_everything(settings.seed, verbose=False)
        self.trainer_options = with_defaults(config["trainer"], "trainer")
        optimizer = build(config["optimizer"], "optimizer")
        scheduler = build(config["scheduler"], "scheduler") if config["scheduler"] else None
        mistakes = Mistakes()
        self.validates, callbacks = False, list[Callback]()  # where a mistake comes before
        self.loggers, self.added = Loggers({"logger": {}}, run), dict[str, Callback]()
        with mistakes.collect():
            self.loggers = Loggers(config, run)
        with mistakes.collect():
            self.added = build_callbacks(config, logs=any(self.loggers))
        with mistakes.collect():
            self.data = build(config["data"], "data")
            self.validates = self.data.val_size > 0 and self.trainer_options["limit_val_batches"] != 0
            objective = self._objective()
            self._check_schedules(objective)
        with mistakes.collect():
            _check_optimizer(optimizer, scheduler)
        with mistakes.collect():
            callbacks = self._callbacks()
        with mistakes.collect(), naming_the_options(config["trainer"]):
            self.trainer = self._trainer(callbacks)
        mistakes.check()
        make_optimizer(optimizer, objective.model)  # raises for a model with learning rates of its own
        self.module = SparseAutoencoderModule(
            objective,
            optimizer=optimizer,
            scheduler=scheduler,
            threshold=settings.active_threshold,
            seed=settings.seed,
            compile_objective=settings.compile,
            config=config,
        )
        self.device = self.data.training_device = self.trainer.strategy.root_device

    @property
    def is_main_process(self) -> bool:
        return bool(self.trainer.is_global_zero)

    @property
    def devices(self) -> int:
        return int(self.trainer.world_size)

    @property
    def packable(self) -> Packable | None:
        module, trainer = self.module, self.trainer
        known = nobody_looks_at_steps(trainer, module, module.new_optimizer())
        # Anomalies are looked for in a whole process, and dropout draws from its generator.
        is_random = any(isinstance(part, _DropoutNd) for part in module.modules())
        if not known or is_random or trainer._detect_anomaly or self.settings.compile or self.data.transforms:
            return None
        try:
            objective = program(module.objective)
        except TypeError:  # it has state that cannot be stacked
            return None
        data = {key: value for key, value in self.config["data"].items() if key != "seed"}
        common = objective, data, self.config["trainer"], self.config["matmul_precision"]
        name = hashlib.sha256(repr(common).encode()).hexdigest()[:16]
        n_parameters = sum(parameter.numel() for parameter in module.parameters())
        return Packable(name, n_parameters, self._training_bytes(n_parameters))

    def _training_bytes(self, n_parameters: int) -> int:
        """Memory of training, about: weights, gradients and two moments; rows and codes of a batch, in several forms;
        and the data, if they are in memory.
        """
        data, latent_dim = self.data, self.module.model.network.latent_dim
        in_batch = data.batch_size * (data.input_dim + latent_dim)
        rows = sum(data.sizes.values()) * data.row_bytes
        # A question to the GPU would begin its use, which is for the processes of jobs.
        tier = choose_tier(data.storage, rows, torch.device("cpu"), on_disk=True)
        return 4 * (4 * n_parameters + _FORMS * in_batch) + (0 if tier == "disk" else rows)

    def resume_from(self) -> Path | None:
        if not isinstance(self.settings.resume, str):
            return None
        path = Path(self.settings.resume)
        if not path.is_file():  # Hydra may have changed the working directory
            path = Path(to_absolute_path(self.settings.resume))
        try:
            check_fits(path, read_checkpoint(path), self.config)
        except CheckpointError as error:
            raise RunError("resume", self.settings.resume, error.reason, error.expected) from error
        return path

    def inspect(self) -> None:
        super().inspect()
        if self.network_spec.get("output") == "sigmoid" and not self.data.in_unit_interval:
            low, high = (float(bound) for bound in self.data.range)
            if low < 0 or high > 1:
                reason = f"its output is in [0, 1], and the data are in [{low:.3g}, {high:.3g}]"
                raise ConfigError("model.output", "sigmoid", reason, "linear, or data.normalize=unit_interval")

    def fit_and_test(self, start: StartingPoint) -> None:
        """Train from ``start`` on, with a validation of the last step, and test."""
        trainer, module = self.trainer, self.module
        logs = self.is_main_process and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if logs:
            self.loggers.begin(self.options, start.logged)
            for doubt in self.loggers.doubts:
                tell(doubt)
        if not self.validates and self.is_main_process:
            tell(f"data.val_size={self.data.val_size}: no validation metrics and no best.ckpt")
        with _misconfiguration_as_config_error(), stopping_together(trainer):
            trainer.fit(module, datamodule=self.data, ckpt_path=start.path, weights_only=True)
            self.stop.resume()
            if not module.has_begun:  # Lightning leaves out the end of what it need not begin
                for callback in self.added.values():
                    callback.on_train_end(trainer, module)
            if self.is_main_process:
                stopped = self._why_stopped()
                self.run.record.note_fitted(stopped)
            is_validated = module.evaluated_at.get("val") == trainer.global_step  # not if stopped between two
            if self.validates and not is_validated:
                trainer.validate(module, datamodule=self.data, verbose=False)
            if self.validates and logs and not self.run.best_checkpoint.exists():
                tell("no epoch ended with a validation that gave a best: no best.ckpt")
            trainer.test(module, datamodule=self.data, verbose=False)
        if logs:
            self.loggers.finish()
            for logger in self.loggers:
                if logger.watch:
                    tell(f"logged:   {shell_line(*logger.watch)}")

    def write_results(self) -> None:
        """Write the metrics, the exported model and the front along a coefficient path, if the run took one."""
        config, module, target = self.config, self.module, self.module.objective.target
        self.run.add_metrics(module.results)
        model = self.in_units_of_data(module.model.cpu().float().eval())
        save_model(self.run, model, network=self.network_spec, sparsity=self.sparsity_spec)
        if target is not None and target.points:
            method = config["sparsity"]["_target_"].rpartition(".")[2]
            self.run.write_analysis("coefficient_path", {"points": target.points}, path_figures(target.points, method))

    def verdict(self) -> dict[str, Any] | None:
        target = self.module.objective.target
        verdict = None if target is None else target.verdict(self.module.results)
        return None if verdict is None else verdict._asdict()

    def _why_stopped(self) -> str | None:
        module = self.module
        is_scheduled = module.make_scheduler is not None or module.objective.needs_an_end
        return why_stopped(self.trainer, module.total_steps(), is_scheduled=is_scheduled)

    def _objective(self) -> Objective:
        """The objective, once the target has set what it sets in the method's spec, such as k."""
        config = self.config
        target = build(config["target"], "target") if config["target"] else None
        self.sparsity_spec = dict(config["sparsity"])
        if target is not None:
            self.sparsity_spec = target.sparsity_spec(
                self.sparsity_spec, with_defaults(config["model"], "model")["latent_dim"]
            )
        self.network_spec = dict(config["model"])
        if self.network_spec.get("output") == "auto":
            self.network_spec["output"] = "sigmoid" if self.data.in_unit_interval else "linear"
        check_memory(self.network_spec, self.sparsity_spec, input_dim=self.data.input_dim)
        model = build_autoencoder(self.network_spec, self.sparsity_spec, input_dim=self.data.input_dim)
        try:
            model.network.check(self.data.input_shape)
        except ConfigError as error:
            raise error.under("model") from error
        dead = build(config["dead"], "dead", latent_dim=model.network.latent_dim)
        return Objective(model, dead, target, threshold=self.active_threshold)

    def _check_schedules(self, objective: Objective) -> None:
        """Raise ``ConfigError`` where training cannot be steered: no validation or metric, no end, too few bits."""
        trainer, mistakes = self.trainer_options, Mistakes()
        needed = [] if objective.target is None else ["a target is met on the validation split"]
        with mistakes.collect():
            losses = [f"train/{name}" for name in ("loss", "recon", *objective.coefficients)]
            for name, metric in check_watched(self.added, losses):
                needed.append(f"callbacks.{name} watches {metric}")
        if not self.validates:
            size, limit = self.data.val_size, trainer["limit_val_batches"]
            key, value = ("trainer.limit_val_batches", limit) if size else ("data.val_size", size)
            mistakes.add(*(ConfigError(key, value, reason, "above 0") for reason in needed))
        steered = {
            "a target's controller": objective.target is not None,
            "the threshold that codes single samples": objective.model.sparsity.traits.learns_threshold,
        }
        for what, is_there in steered.items():
            if is_there and trainer["precision"] in _HALF:
                reason = f"the steps of {what} would be lost in rounding"
                mistakes.add(ConfigError("trainer.precision", trainer["precision"], reason, _WHOLE))
        if objective.needs_an_end and trainer["max_epochs"] == trainer["max_steps"] == -1:
            reason = "a schedule over a share of training needs an end to it"
            mistakes.add(ConfigError("trainer.max_epochs", -1, reason, "a number of epochs, or of trainer.max_steps"))
        mistakes.check()

    def _callbacks(self) -> list[Callback]:
        config, mistakes = self.config, Mistakes()
        found = [*self.added.values(), StatusProgress(self.run), ResumeState(self.loggers), Health()]
        with mistakes.collect():
            found.append(build(config["visuals"], "visuals"))
        with mistakes.collect():
            found.append(build(config["checkpoint"], "checkpoint", folder=self.run.checkpoints, stop=self.stop))
        mistakes.check()
        return found

    def _trainer(self, callbacks: Sequence[Callback]) -> Trainer:
        options = self.trainer_options
        check_options(options)
        progress = progress_callbacks(options["enable_progress_bar"])
        spec = {
            **self.config["trainer"],
            "enable_progress_bar": any(isinstance(p, EpochBar) for p in progress),
            "limit_val_batches": options["limit_val_batches"] if self.validates else 0,
            "profiler": options["profiler"] or NoProfiler(),
        }
        plugins = [SealedCheckpointIO(), cluster_environment(options)]
        ours = {"logger": [*self.loggers], "callbacks": [*progress, *callbacks], "plugins": plugins}
        # Under Slurm, Lightning starts from an hpc_ckpt_*.ckpt in its root folder, such as an earlier version left in
        # a run's. No run begins with a file in this one.
        with _misconfiguration_as_config_error():
            trainer: Trainer = build(spec, "trainer", **ours, default_root_dir=self.run.checkpoints)
        for callback in callbacks:
            if isinstance(callback, RunCheckpoint):
                TrainingLoop(trainer, callback)
        set_rank(trainer.global_rank)
        return trainer


@contextmanager
def _misconfiguration_as_config_error() -> Iterator[None]:
    """Lightning's own word for a mistake of the user's is not a ``ValueError``."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError("trainer", reason=str(error)) from error


def _check_optimizer(optimizer: MakeOptimizer, scheduler: MakeScheduler | None) -> None:
    """Optimizers and schedulers check their numbers only when they are made."""
    try:
        made = optimizer([torch.zeros(1, requires_grad=True)])
    except (TypeError, ValueError) as error:
        raise ConfigError("optimizer", reason=str(error)) from error
    if scheduler is not None:
        try:
            make_scheduler(scheduler, made, total_steps=1)
        except (TypeError, ValueError) as error:
            raise ConfigError("scheduler", reason=str(error)) from error
