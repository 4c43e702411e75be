"""Figures and numbers about codes: ``sparse-ae-analyse run=DIR [analysis=[NAME,...]]``, DIR a run or many."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import NonNegativeFloat

from sparse_ae.cli.arguments import read_overrides
from sparse_ae.cli.compose import compose, composing, task_config
from sparse_ae.cli.errors import one_line_errors
from sparse_ae.config.build import check_arguments
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.reporting.console import tell
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError

PROGRAM = "sparse-ae-analyse"


class Settings(NamedTuple):
    """Keys of ``conf/analyse.yaml`` beside ``analysis``."""

    run: str
    weights: Literal["final", "best"]
    active_threshold: NonNegativeFloat | None
    device: str
    svg: bool


def main() -> None:
    """Analyse as the command line says: one run, or every run of a folder."""
    with one_line_errors(PROGRAM):
        analyse(read_overrides(PROGRAM, "Figures and numbers about a run's codes.", "analyse"))


def analyse(overrides: Sequence[str]) -> list[str]:
    """Analyse as ``overrides`` of ``conf/analyse.yaml`` say; returns the names that the results are written under."""
    listed = [re.sub(r"^analysis=([\w,]+)$", r"analysis=[\1]", override) for override in overrides]
    with composing():
        config = compose("analyse", listed)
        from sparse_ae.analysis.loading import named_run  # imports torch
        from sparse_ae.reporting.entries import is_run

        plain = task_config(config)
        analyses = plain.pop("analysis")
        settings = Settings(**check_arguments(Settings, plain, ""))
        if not analyses:
            raise ConfigError("analysis", "[]", "names nothing to do", "one analysis or more")
        is_default = not any(override.lstrip("+~").startswith("analysis=") for override in listed)
        folder = Path(settings.run)
        if is_run(folder) or not folder.is_dir():
            return _analyse(named_run(config), settings, analyses, is_default=is_default)
    return _analyse_all(folder, settings, analyses, is_default=is_default)


def _analyse_all(folder: Path, settings: Settings, analyses: Mapping[str, Any], *, is_default: bool) -> list[str]:
    """Analyse every finished run of a folder, then compare them."""
    from sparse_ae.reporting.compare import write_comparison

    names: dict[str, None] = {}
    failed: dict[str, UserError] = {}
    runs = _finished(folder)
    for run in runs:
        try:
            names |= dict.fromkeys(_analyse(run, settings, analyses, is_default=is_default))
        except UserError as error:
            failed[str(run.shown_path)] = error
    if not names:
        raise next(iter(failed.values()))
    for path in write_comparison(folder, list(names)):
        tell(str(path))
    if failed:
        told = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise ConfigError("", reason=f"{len(failed)} of {len(runs)} runs could not be analysed: {told}")
    return list(names)


def _finished(folder: Path) -> Sequence[Run]:
    """Finished runs in ``folder``. Raises ``ConfigError`` if there are none."""
    from sparse_ae.reporting.collect import collect  # pandas takes a second to import

    try:
        runs = [entry.run for entry in collect([folder]).finished]
    except RunError:
        runs = []
    if not runs:
        raise ConfigError("run", folder, "holds no finished run", "a run's folder, or a folder of runs")
    return runs


def _analyse(run: Run, settings: Settings, analyses: Mapping[str, Any], *, is_default: bool) -> list[str]:
    """Analyse one run; returns the names that the results are written under.

    These are the same for every run, but that of the default analyses those are left out which need classes that the
    data have not.
    """
    from sparse_ae.analysis import Subject
    from sparse_ae.analysis.base import NoClassesError
    from sparse_ae.analysis.loading import read_run, test_sample
    from sparse_ae.analysis.write import write_analyses, written_name
    from sparse_ae.reporting.analyses import read_found
    from sparse_ae.reporting.pages import write_run_page
    from sparse_ae.reporting.results import value_text

    stored = read_run(run, weights=settings.weights, threshold=settings.active_threshold, device=settings.device)
    sample = test_sample(stored.coder, stored.data, stored.data.device, stored.threshold)
    if sample.left_out:
        tell(sample.left_out)
    subject = Subject(stored.coder, sample, run)
    left_out: dict[str, NoClassesError] = {}
    tolerated = left_out if is_default else None
    paths = write_analyses(run, subject, analyses, variant=stored.variant, svg=settings.svg, left_out=tolerated)
    for error in left_out.values():
        tell(f"left out: {error}")
    names = [written_name(name, stored.variant) for name in analyses if name not in left_out]
    for name in names:
        found = read_found(run, name)
        for number, label in found.labels.items():
            tell(f"{name}: {label}: {value_text(found.numbers.get(number))}")
    for path in paths:
        tell(str(run.shown_path / path.relative_to(run.path)))
    write_run_page(run)
    tell(str(run.shown_path / "report.html"))
    return names


if __name__ == "__main__":
    main()
