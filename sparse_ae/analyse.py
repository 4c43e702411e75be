"""Figures and numbers about a run's codes: ``sparse-ae-analyse run=DIR [analysis=[NAME,...]]``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import NonNegativeFloat

from sparse_ae.build import build, check_arguments
from sparse_ae.cli import compose, one_line_errors, parse_overrides, task_config
from sparse_ae.evaluate import require_run
from sparse_ae.runs import Run, make_writable

if TYPE_CHECKING:
    from sparse_ae.data import ImageDataModule
    from sparse_ae.models import Coder

PROGRAM = "sparse-ae-analyse"


class Settings(NamedTuple):
    """What ``conf/analyse.yaml`` holds beside ``analysis``."""

    run: str
    weights: Literal["final", "best"]
    active_threshold: NonNegativeFloat | None
    device: str


def main() -> None:
    """Analyse as the command line says."""
    with one_line_errors(PROGRAM):
        analyse_run(parse_overrides(PROGRAM, "Figures and numbers about a run's codes.", "analyse"))


def analyse_run(overrides: list[str]) -> None:
    """Compose ``conf/analyse.yaml`` with ``overrides`` and do what it says."""
    config = compose("analyse", overrides)
    require_run(config)
    run = Run.open(config.run)
    plain = task_config(config)
    analyses = plain.pop("analysis", {})
    settings = Settings(**check_arguments(Settings, plain, ""))
    trained_with = run.config
    threshold = trained_with["active_threshold"] if settings.active_threshold is None else settings.active_threshold

    from sparse_ae.data import usable_device
    from sparse_ae.export import load

    device = usable_device(settings.device)
    data = build(trained_with["data"] | {"device": str(device)}, "data")
    make_writable(run.path)
    model = load(run, settings.weights).to(device)
    data.prepare_data()
    for path in write_analyses(run, model, data, analyses, threshold=threshold):
        print(path)


def write_analyses(
    run: Run, coder: "Coder", data: "ImageDataModule", specs: Mapping[str, Any], *, threshold: float
) -> list[Path]:
    """Run each analysis of ``specs`` on the whole test split and write what it found; returns the figures' paths."""
    from sparse_ae.analysis import Sample
    from sparse_ae.data import to_unit_interval
    from sparse_ae.plotting import to_png

    images = data.split("test")
    device = coder.dictionary.device
    sample = Sample(to_unit_interval(images.x).to(device), images.label, data.input_shape, threshold)
    paths = []
    for name, spec in specs.items():
        result = build(spec, f"analysis.{name}")(coder, sample)
        figures = {key: to_png(figure) for key, figure in result.figures.items()}
        paths += run.write_analysis(name, result.numbers, figures)
    return paths


if __name__ == "__main__":
    main()
