"""Metrics of a run's model on one split: ``sparse-ae-evaluate run=DIR [split=val|test|all] [data=...]``.

The model is rebuilt from the run alone; the metrics are printed and written into its ``metrics.json``.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt

from sparse_ae.cli.arguments import read_overrides
from sparse_ae.cli.compose import compose, composing, task_config
from sparse_ae.cli.errors import one_line_errors
from sparse_ae.config.build import check_arguments
from sparse_ae.config.errors import ConfigError
from sparse_ae.reporting.console import print_metrics, tell
from sparse_ae.run.directory import Run

PROGRAM = "sparse-ae-evaluate"


class Settings(NamedTuple):
    """Keys of ``conf/evaluate.yaml`` beside ``data``."""

    run: str
    split: Literal["val", "test", "all"]
    weights: Literal["final", "best"]
    active_threshold: NonNegativeFloat | None
    seed: NonNegativeInt | None
    device: str


def main() -> None:
    """Evaluate as the command line says."""
    with one_line_errors(PROGRAM):
        evaluate(read_overrides(PROGRAM, "Metrics of a run's model on one split.", "evaluate"))


def evaluate(overrides: Sequence[str]) -> dict[str, float]:
    """Evaluate as ``overrides`` of ``conf/evaluate.yaml`` say; returns what was written into ``metrics.json``."""
    with composing():
        config = compose("evaluate", overrides)
        from sparse_ae.analysis.loading import named_run  # imports torch

        run = named_run(config)
        if config.seed is None:
            config.seed = run.config["seed"]
        plain = task_config(config)
    other_data = plain.pop("data", None)
    settings = Settings(**check_arguments(Settings, plain, ""))
    return _evaluate(run, settings, other_data)


def _evaluate(run: Run, settings: Settings, other_data: Mapping[str, Any] | None) -> dict[str, float]:
    from sparse_ae import metrics as measured
    from sparse_ae.analysis.loading import read_run
    from sparse_ae.data import Split

    if settings.split == "all" and other_data is None:
        raise ConfigError("split", "all", "the model was trained on some of the run's own data", "val or test")
    stored = read_run(
        run,
        weights=settings.weights,
        threshold=settings.active_threshold,
        device=settings.device,
        other_data=other_data,
    )
    data, coder = stored.data, stored.coder
    kind = type(data).__name__
    splits: tuple[Split, ...] = ("train", "val", "test") if settings.split == "all" else (settings.split,)
    n = sum(data.sizes[split] for split in splits)
    if not n:
        raise ConfigError("split", settings.split, f"{kind} has no such rows (data.{settings.split}_size=0)")
    batches = chain.from_iterable(data.eval_dataloader(split) for split in splits if data.sizes[split])
    metrics = measured.CodeMetrics(
        mean=data.train_mean, latent_dim=coder.latent_dim, threshold=stored.threshold, unit=data.scale.unit
    ).to(data.device)
    values = {f"{settings.split}/{name}": value for name, value in measured.evaluate(coder, batches, metrics).items()}
    title = f"{run.path.name} ({settings.weights} weights) on {n:,} of {sum(data.sizes.values()):,} rows of {kind}"
    print_metrics(values, settings.split, title=title, units=coder.latent_dim)
    # Results for other data, weights or thresholds get a name of their own, so as not to replace the run's.
    parts = [*([] if other_data is None else [kind]), *([stored.variant] if stored.variant else [])]
    written = {"/".join([*parts, name]): value for name, value in values.items()}
    run.add_metrics(written)
    tell(f"written to {run.shown_path / 'metrics.json'} as {next(iter(written))} ...")
    return written


if __name__ == "__main__":
    main()
