"""From a composed config to everything a run is made of, built and not yet started."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveInt, StrictStr

from sparse_ae.build import ConfigError, build, check_arguments, locate, nearest
from sparse_ae.runs import Run

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from sparse_ae.data import ImageDataModule
    from sparse_ae.objective import Objective
    from sparse_ae.targets import Target
    from sparse_ae.training.module import SparseAutoencoderModule
    from sparse_ae.training.stop import StopSignals


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


class Experiment(NamedTuple):
    """What a config describes, built and not yet started."""

    settings: Settings
    data: "ImageDataModule"
    module: "SparseAutoencoderModule"
    trainer: "Trainer"


def assemble(config: Mapping[str, Any], run: Run, stop: "StopSignals | None" = None) -> Experiment:
    """Build every part of a run from its config, in ``run``'s folder; ``stop`` is what asks it to stop. Reads no data
    and writes nothing.

    Raises ``ConfigError`` for the first key that is wrong.
    """
    from lightning.pytorch import seed_everything

    from sparse_ae.training.checkpoints import SealedCheckpointIO
    from sparse_ae.training.dead import DeadUnitsCallback
    from sparse_ae.training.health import Health
    from sparse_ae.training.logger import RunLogger
    from sparse_ae.training.module import SparseAutoencoderModule
    from sparse_ae.training.process import NoProfiler, tune_process
    from sparse_ae.training.progress import EpochBar, StatusProgress, progress_callbacks
    from sparse_ae.training.resume import ResumeState
    from sparse_ae.training.schedules import ObjectiveSchedule
    from sparse_ae.training.stop import StopSignals

    settings = _settings(config)
    tune_process(settings.threads, settings.matmul_precision)
    seed_everything(settings.seed, verbose=False)

    data = build(config["data"], "data")
    module = SparseAutoencoderModule(
        _objective(config, settings.active_threshold, input_dim=data.input_dim),
        optimizer=build(config["optimizer"], "optimizer"),
        scheduler=build(config["scheduler"], "scheduler") if config["scheduler"] else None,
        threshold=settings.active_threshold,
        compile_objective=settings.compile,
        config=config,
    )
    _check_optimizer(module)
    validates = data.val_size > 0 and config["trainer"]["limit_val_batches"] != 0
    _check_targets(module.objective, config, validates=validates)
    progress = progress_callbacks(config["trainer"]["enable_progress_bar"])
    logger = RunLogger(run.path)
    callbacks = [
        *progress,
        StatusProgress(run),
        ResumeState(logger),
        ObjectiveSchedule(),
        DeadUnitsCallback(settings.seed),
        Health(),
        build(config["visuals"], "visuals"),
        build(
            config["checkpoint"],
            "checkpoint",
            folder=run.path / "checkpoints",
            validates=validates,
            stop=stop or StopSignals(),
        ),
    ]
    trainer_spec = {
        **config["trainer"],
        "enable_progress_bar": any(isinstance(p, EpochBar) for p in progress),
        "limit_val_batches": config["trainer"]["limit_val_batches"] if validates else 0,
        "profiler": config["trainer"]["profiler"] or NoProfiler(),
    }
    ours = {"logger": logger, "callbacks": callbacks, "plugins": [SealedCheckpointIO()]}
    return Experiment(settings, data, module, _trainer(trainer_spec, **ours, default_root_dir=run.path))


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


def _objective(config: Mapping[str, Any], threshold: float, *, input_dim: int) -> "Objective":
    from sparse_ae.export import build_autoencoder
    from sparse_ae.objective import Objective

    model = build_autoencoder(config["model"], sparsity_spec(config), input_dim=input_dim)
    dead = build(config["dead"], "dead", latent_dim=model.network.latent_dim)
    try:
        return Objective(model, dead, _target(config), threshold=threshold)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_targets(objective: "Objective", config: Mapping[str, Any], *, validates: bool) -> None:
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
    if objective.needs_an_end and trainer["max_epochs"] == trainer["max_steps"] == -1:
        raise ConfigError("trainer.max_epochs=-1: what is scheduled over a share of training needs an end to it")


def _settings(config: Mapping[str, Any]) -> Settings:
    """The config's scalars, once every key of its top level is known."""
    for group in _GROUPS:
        if not isinstance(config.get(group), Mapping):
            raise ConfigError(f"{group}: is no group of options (given: {config.get(group, 'nothing')})")
    scalars = {key: value for key, value in config.items() if key not in _GROUPS}
    for key in scalars:
        if key not in Settings._fields:
            raise ConfigError(f"{key}: no such key{nearest(key, [*Settings._fields, *_GROUPS])}")
    return Settings(**check_arguments(Settings, scalars, ""))


def _trainer(spec: Mapping[str, Any], **ours: Any) -> "Trainer":
    """Lightning names the device it does not find, but not the keys that asked for it: add them."""
    try:
        trainer: Trainer = build(spec, "trainer", **ours)
    except ConfigError as error:
        if not re.search("accelerator|backend|device", str(error)):
            raise
        given = ", ".join(f"{key}={spec[key]}" for key in ("accelerator", "devices", "strategy"))
        raise ConfigError(f"{error} (given: {given}; allowed on every machine: trainer=cpu)") from error
    return trainer


def _check_optimizer(module: "SparseAutoencoderModule") -> None:
    """Optimizers and schedulers check their numbers only when they are made."""
    from sparse_ae.training.module import make_scheduler

    try:
        optimizer = module.new_optimizer()
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error
    if module.make_scheduler is not None:
        try:
            make_scheduler(module.make_scheduler, optimizer, total_steps=1)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"scheduler: {error}") from error
