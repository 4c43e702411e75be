"""An autoencoder to be trained: from a composed config to everything that takes part, and from there to results."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from lightning.pytorch import Trainer, seed_everything
from pydantic import Field, NonNegativeFloat, PositiveInt, StrictStr

from sparse_ae.config.build import build, locate
from sparse_ae.config.errors import ConfigError
from sparse_ae.jobs.base import Experiment, StartingPoint, read_settings
from sparse_ae.models import build_autoencoder
from sparse_ae.runs.checkpoint import read_checkpoint
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import CheckpointError, RunError
from sparse_ae.runs.export import save_model
from sparse_ae.training.checkpointing import SealedCheckpointIO, check_fits
from sparse_ae.training.dead import DeadUnitsCallback
from sparse_ae.training.health import Health
from sparse_ae.training.logger import RunLogger
from sparse_ae.training.module import SparseAutoencoderModule, make_scheduler
from sparse_ae.training.objective import Objective
from sparse_ae.training.process import NoProfiler, tune_process
from sparse_ae.training.progress import EpochBar, StatusProgress, progress_callbacks
from sparse_ae.training.resume import ResumeState
from sparse_ae.training.schedulers import ObjectiveSchedule
from sparse_ae.training.stop import StopSignals

if TYPE_CHECKING:
    from sparse_ae.targets import Target


class Settings(NamedTuple):
    """The config's own scalars; everything else in it belongs to a constructor."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    active_threshold: NonNegativeFloat
    compile: bool
    matmul_precision: Literal["highest", "high", "medium"]
    threads: PositiveInt | None
    resume: StrictStr | None
    rerun: Literal["all", "failed", "none"]


_GROUPS = (
    "data",
    "model",
    "sparsity",
    "target",
    "dead",
    "optimizer",
    "scheduler",
    "trainer",
    "checkpoint",
    "visuals",
    "analysis",
)


_HALF = ("bf16-true", "16-true")
"""Precisions that keep every buffer in 16 bits."""


class TrainingExperiment(Experiment):
    """Data, module and trainer, and what they make of a run."""

    def __init__(self, config: Mapping[str, Any], run: Run, stop: StopSignals | None = None) -> None:
        """Build every part, in ``run``'s folder; ``stop`` is what asks it to stop. Raises ``ConfigError`` for the first
        key that is wrong.
        """
        self.config = config
        self.settings = settings = read_settings(Settings, config, _GROUPS)
        self.active_threshold, self.rerun = settings.active_threshold, settings.rerun
        self.run = run
        self.stop = stop or StopSignals()
        tune_process(settings.threads, settings.matmul_precision)
        seed_everything(settings.seed, verbose=False)

        self.data = build(config["data"], "data")
        self.module = SparseAutoencoderModule(
            _objective(config, settings.active_threshold, input_dim=self.data.input_dim),
            optimizer=build(config["optimizer"], "optimizer"),
            scheduler=build(config["scheduler"], "scheduler") if config["scheduler"] else None,
            threshold=settings.active_threshold,
            compile_objective=settings.compile,
            config=config,
        )
        _check_optimizer(self.module)
        self.validates = self.data.val_size > 0 and config["trainer"]["limit_val_batches"] != 0
        _check_targets(self.module.objective, config, validates=self.validates)
        self.logger = RunLogger(run.path)
        self.trainer = self._trainer(run)
        self.device = self.trainer.strategy.root_device

    @property
    def is_main_process(self) -> bool:
        return bool(self.trainer.is_global_zero)

    @property
    def devices(self) -> int:
        return int(self.trainer.world_size)

    def resume_from(self) -> Path | None:
        if self.settings.resume is None:
            return None
        path = Path(self.settings.resume)
        try:
            check_fits(path, read_checkpoint(path), self.config)
        except CheckpointError as error:
            raise RunError(f"resume={error}") from error
        return path

    def fit_and_test(self, start: StartingPoint) -> None:
        """Train from ``start`` on, with a validation of the last step, and test."""
        trainer, module = self.trainer, self.module
        logs = trainer.logger is self.logger  # trainer.fast_dev_run has none
        if logs and start.event_sizes is None:
            self.logger.begin(module.hparams["config"], module.metric_names(validates=self.validates))
        if not self.validates and self.is_main_process:
            print(f"data.val_size={self.data.val_size}: no validation metrics and no best.ckpt")
        trainer.fit(module, datamodule=self.data, ckpt_path=start.path, weights_only=True)
        self.stop.resume()
        if self.is_main_process:
            self.run.note_fitted()
        if self.validates and module.evaluated_at.get("val") != trainer.global_step:  # stopped between two validations
            trainer.validate(module, datamodule=self.data, verbose=False)
        if self.validates and logs and self.is_main_process and not self.run.best_checkpoint.exists():
            print("no epoch ended with a validation that gave a best: no best.ckpt")
        trainer.test(module, datamodule=self.data, verbose=False)
        if logs:
            self.logger.finish()

    def write_results(self, run: Run) -> None:
        """Metrics, the exported model and the front that was passed along, if a target was to record one."""
        from sparse_ae.analysis.coefficient_path import path_figures

        config, module = self.config, self.module
        run.add_metrics(module.latest | module.results)
        model = module.model.cpu().float().eval()
        shape = self.data.input_shape
        save_model(run, model, network=config["model"], sparsity=sparsity_spec(config), input_shape=shape)
        target = module.objective.target
        if target is not None and target.points:
            method = config["sparsity"]["_target_"].rpartition(".")[2]
            run.write_analysis("coefficient_path", {"points": target.points}, path_figures(target.points, method))

    def verdict(self) -> dict[str, Any] | None:
        target = self.module.objective.target
        verdict = None if target is None else target.verdict(self.module.results)
        return None if verdict is None else verdict._asdict()

    def _trainer(self, run: Run) -> Trainer:
        config = self.config
        progress = progress_callbacks(config["trainer"]["enable_progress_bar"])
        checkpoints = {"folder": run.path / "checkpoints", "validates": self.validates, "stop": self.stop}
        callbacks = [
            *progress,
            StatusProgress(run),
            ResumeState(self.logger),
            ObjectiveSchedule(),
            DeadUnitsCallback(self.settings.seed),
            Health(),
            build(config["visuals"], "visuals"),
            build(config["checkpoint"], "checkpoint", **checkpoints),
        ]
        spec = {
            **config["trainer"],
            "enable_progress_bar": any(isinstance(p, EpochBar) for p in progress),
            "limit_val_batches": config["trainer"]["limit_val_batches"] if self.validates else 0,
            "profiler": config["trainer"]["profiler"] or NoProfiler(),
        }
        ours = {"logger": self.logger, "callbacks": callbacks, "plugins": [SealedCheckpointIO()]}
        return _build_trainer(spec, **ours, default_root_dir=run.path)


def sparsity_spec(config: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of the sparsity method with what the target sets in it, such as k."""
    target = _target(config)
    spec = dict(config["sparsity"])
    units = config["model"].get("latent_dim")
    if target is None or not isinstance(units, int):  # the network says what is wrong with it
        return spec
    method: Any = locate(spec["_target_"], "sparsity")
    try:
        return spec | target.arguments_for(method, units)
    except ValueError as error:
        raise ConfigError(f"target.value={config['target'].get('value')}: {error}") from error


def _target(config: Mapping[str, Any]) -> "Target | None":
    return build(config["target"], "target") if config["target"] else None


def _objective(config: Mapping[str, Any], threshold: float, *, input_dim: int) -> Objective:
    model = build_autoencoder(config["model"], sparsity_spec(config), input_dim=input_dim)
    dead = build(config["dead"], "dead", latent_dim=model.network.latent_dim)
    try:
        return Objective(model, dead, _target(config), threshold=threshold)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_targets(objective: Objective, config: Mapping[str, Any], *, validates: bool) -> None:
    """What steers training needs: a validation to be met on, an end to be scheduled to, numbers that add up."""
    trainer = config["trainer"]
    if objective.target is not None and not validates:
        val_size = config["data"]["val_size"]
        key = f"trainer.limit_val_batches={trainer['limit_val_batches']}" if val_size else "data.val_size=0"
        raise ConfigError(f"{key}: a target is met on the validation split (allowed: above 0)")
    if objective.target is not None and trainer["precision"] in _HALF:
        raise ConfigError(
            f"trainer.precision={trainer['precision']}: the steps of a target's controller would be lost in rounding "
            "(allowed: 32-true, 64-true, bf16-mixed, 16-mixed)"
        )
    sparsity = objective.model.sparsity
    if sparsity.couples_samples and sparsity.any_density is None and trainer["precision"] in _HALF:
        raise ConfigError(
            f"trainer.precision={trainer['precision']}: the steps of the threshold that codes single samples would be "
            "lost in rounding (allowed: 32-true, 64-true, bf16-mixed, 16-mixed)"
        )
    if objective.needs_an_end and trainer["max_epochs"] == trainer["max_steps"] == -1:
        raise ConfigError("trainer.max_epochs=-1: what is scheduled over a share of training needs an end to it")


def _build_trainer(spec: Mapping[str, Any], **ours: Any) -> Trainer:
    """Lightning names the device it does not find, but not the keys that asked for it: add them."""
    try:
        trainer: Trainer = build(spec, "trainer", **ours)
    except ConfigError as error:
        if not re.search("accelerator|backend|device", str(error)):
            raise
        given = ", ".join(f"{key}={spec[key]}" for key in ("accelerator", "devices", "strategy"))
        raise ConfigError(f"{error} (given: {given}; allowed on every machine: trainer=cpu)") from error
    return trainer


def _check_optimizer(module: SparseAutoencoderModule) -> None:
    """Optimizers and schedulers check their numbers only when they are made."""
    try:
        optimizer = module.new_optimizer()
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error
    if module.make_scheduler is not None:
        try:
            make_scheduler(module.make_scheduler, optimizer, total_steps=1)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"scheduler: {error}") from error
