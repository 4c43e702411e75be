"""Metrics of a run's model on one split: ``sparse-ae-evaluate run=DIR [split=val|test] [data=...]``.

The model is rebuilt from the run alone; the metrics are printed and written into its ``metrics.json``.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt

from sparse_ae.build import ConfigError, build, check_arguments
from sparse_ae.cli import compose, one_line_errors, parse_overrides, task_config
from sparse_ae.runs import Run, make_writable

PROGRAM = "sparse-ae-evaluate"


class Settings(NamedTuple):
    """What ``conf/evaluate.yaml`` holds beside ``data``."""

    run: str
    split: Literal["val", "test"]
    weights: Literal["final", "best"]
    active_threshold: NonNegativeFloat | None
    seed: NonNegativeInt | None
    device: str


def main() -> None:
    """Evaluate as the command line says."""
    with one_line_errors(PROGRAM):
        overrides = parse_overrides(PROGRAM, "Metrics of a run's model on one split.", "evaluate")
        evaluate_run(overrides)


def evaluate_run(overrides: list[str]) -> None:
    """Compose ``conf/evaluate.yaml`` with ``overrides`` and do what it says."""
    config = compose("evaluate", overrides)
    require_run(config)
    run = Run.open(config.run)
    trained_with = run.config
    if config.seed is None:
        config.seed = trained_with["seed"]
    plain = task_config(config)
    data_spec = plain.pop("data", None)
    settings = Settings(**check_arguments(Settings, plain, ""))
    threshold = trained_with["active_threshold"] if settings.active_threshold is None else settings.active_threshold

    from sparse_ae.data import usable_device
    from sparse_ae.export import load
    from sparse_ae.metrics import CodeMetrics, evaluate
    from sparse_ae.summary import console, print_metrics

    device = usable_device(settings.device)
    data = build((data_spec or trained_with["data"]) | {"device": str(device)}, "data")
    if settings.split == "val" and data.val_size == 0:
        raise ConfigError("split=val: this run has no validation split (data.val_size=0; allowed: test)")
    make_writable(run.path)
    model = load(run, settings.weights).to(device)
    if data.input_dim != model.network.input_dim:
        raise ConfigError(f"data: {data.input_dim} values per image, but the model takes {model.network.input_dim}")

    data.prepare_data()
    metrics = CodeMetrics(mean=data.train_mean, latent_dim=model.network.latent_dim, threshold=threshold).to(device)
    values = evaluate(model, data.eval_dataloader(settings.split), metrics)
    named = {f"{settings.split}/{name}": value for name, value in values.items()}
    title = f"{run.path.name} ({settings.weights} weights) on {type(data).__name__}"
    print_metrics(named, settings.split, title=title, units=model.network.latent_dim)
    own = data_spec is None and settings.weights == "final" and settings.active_threshold is None
    written = named if own else {f"{_prefix(settings, data)}{name}": value for name, value in named.items()}
    run.add_metrics(written)
    console().print(f"written to {run.shown_path / 'metrics.json'} as {next(iter(written))} ...")


def _prefix(settings: Settings, data: Any) -> str:
    """Metrics of other data, weights or threshold get names of their own, so as not to replace the run's."""
    threshold = "" if settings.active_threshold is None else f"@{settings.active_threshold:g}"
    return f"{type(data).__name__}/{settings.weights}{threshold}/"


def require_run(config: Any) -> None:
    """Raise ``ConfigError`` unless ``run=`` was given."""
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(config, "run") or not str(config.run):
        raise ConfigError("run: is required (allowed: run=DIR, a run's folder such as outputs/default/<run>)")
    config.run = str(Path(str(config.run)))


if __name__ == "__main__":
    main()
