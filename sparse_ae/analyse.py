"""Figures and numbers about a run's codes: ``sparse-ae-analyse run=DIR [analysis=[NAME,...]]``."""

import re
from typing import Literal, NamedTuple

from pydantic import NonNegativeFloat

from sparse_ae.build import check_arguments
from sparse_ae.cli import compose, one_line_errors, parse_overrides, task_config

PROGRAM = "sparse-ae-analyse"


class Settings(NamedTuple):
    """What ``conf/analyse.yaml`` holds beside ``analysis``."""

    run: str
    weights: Literal["final", "best"]
    active_threshold: NonNegativeFloat | None
    device: str
    svg: bool


def main() -> None:
    """Analyse as the command line says."""
    with one_line_errors(PROGRAM):
        analyse_run(parse_overrides(PROGRAM, "Figures and numbers about a run's codes.", "analyse"))


def analyse_run(overrides: list[str]) -> None:
    """Compose ``conf/analyse.yaml`` with ``overrides`` and do what it says."""
    listed = [re.sub(r"^analysis=([\w,]+)$", r"analysis=[\1]", override) for override in overrides]
    config = compose("analyse", listed)
    from sparse_ae.stored import named_run, read_run, test_sample

    run = named_run(config)
    plain = task_config(config)
    analyses = plain.pop("analysis")
    settings = Settings(**check_arguments(Settings, plain, ""))

    from sparse_ae.analysis import Subject
    from sparse_ae.analysis.write import write_analyses

    stored = read_run(run, weights=settings.weights, threshold=settings.active_threshold, device=settings.device)
    sample = test_sample(stored.data, stored.data.device, stored.threshold)
    for path in write_analyses(
        run, Subject(stored.model, sample, run), analyses, variant=stored.variant, svg=settings.svg
    ):
        print(path)


if __name__ == "__main__":
    main()
