"""Run analyses and write what they found into the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_ae.analysis.base import Sample
from sparse_ae.build import build
from sparse_ae.models import Coder
from sparse_ae.plotting import to_png
from sparse_ae.runs import Run


def write_analyses(
    run: Run, coder: Coder, sample: Sample, specs: Mapping[str, Any], *, variant: str = ""
) -> list[Path]:
    """Each analysis of ``specs`` on ``sample``; returns the paths of the figures.

    ``variant`` marks results that are not of the run's own weights and threshold: ``analysis/<name>-<variant>``.
    """
    analyses = {name: build(spec, f"analysis.{name}") for name, spec in specs.items()}
    paths = []
    for name, analyse in analyses.items():
        result = analyse(coder, sample)
        figures = {key: to_png(figure) for key, figure in result.figures.items()}
        paths += run.write_analysis(f"{name}-{variant}" if variant else name, result.numbers, figures)
    return paths
