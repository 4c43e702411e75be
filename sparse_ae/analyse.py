"""Figures and numbers about codes: ``sparse-ae-analyse run=DIR [analysis=[NAME,...]]``, DIR a run or many."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import NonNegativeFloat

from sparse_ae.cli.compose import compose, one_line_errors, parse_overrides, task_config
from sparse_ae.config.build import check_arguments
from sparse_ae.config.errors import ConfigError
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError

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
        analyse_runs(parse_overrides(PROGRAM, "Figures and numbers about a run's codes.", "analyse"))


def analyse_runs(overrides: list[str]) -> None:
    """Compose ``conf/analyse.yaml`` with ``overrides`` and do what it says, to one run or to all of a folder."""
    listed = [re.sub(r"^analysis=([\w,]+)$", r"analysis=[\1]", override) for override in overrides]
    config = compose("analyse", listed)
    from sparse_ae.analysis.loading import named_run
    from sparse_ae.reporting.entries import is_run

    plain = task_config(config)
    analyses = plain.pop("analysis")
    settings = Settings(**check_arguments(Settings, plain, ""))
    folder = Path(settings.run)
    if is_run(folder) or not folder.is_dir():
        _analyse(named_run(config), settings, analyses)
        return
    from sparse_ae.reporting.collect import collect  # pandas takes a second to import
    from sparse_ae.reporting.compare import write_comparison

    try:
        runs = [entry.run for entry in collect([folder]).finished]
    except RunError:
        runs = []
    if not runs:
        raise ConfigError(f"run={folder}: holds no finished run (allowed: a run's folder, or a folder of such)")
    names: dict[str, None] = {}
    failed: dict[str, Exception] = {}
    for run in runs:
        try:
            names |= dict.fromkeys(_analyse(run, settings, analyses))
        except (RunError, ValueError) as error:
            failed[str(run.shown_path)] = error
    if not names:
        raise next(iter(failed.values()))
    for path in write_comparison(folder, list(names)):
        print(path)
    if failed:
        told = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise ConfigError(f"{len(failed)} of {len(runs)} runs could not be analysed: {told}")


def _analyse(run: Run, settings: Settings, analyses: Mapping[str, Any]) -> list[str]:
    """Analyse one run; returns the names that the results are written under, which are the same for every run."""
    from sparse_ae.analysis import Subject
    from sparse_ae.analysis.loading import read_run, test_sample
    from sparse_ae.analysis.write import write_analyses, written_name
    from sparse_ae.reporting.pages import write_run_page

    stored = read_run(run, weights=settings.weights, threshold=settings.active_threshold, device=settings.device)
    subject = Subject(stored.coder, test_sample(stored.data, stored.data.device, stored.threshold), run)
    for path in write_analyses(run, subject, analyses, variant=stored.variant, svg=settings.svg):
        print(path)
    write_run_page(run)
    print(run.shown_path / "report.html")
    return [written_name(name, stored.variant) for name in analyses]


if __name__ == "__main__":
    main()
