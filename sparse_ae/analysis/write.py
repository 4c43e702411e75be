"""Run analyses and write what they found into the run: numbers, arrays, figures."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.analysis.tensorboard import projector_files, show_embedding, show_figures
from sparse_ae.config.build import build
from sparse_ae.plotting import to_png, to_svg
from sparse_ae.runs.directory import Run


def write_analyses(
    run: Run, subject: Subject, specs: Mapping[str, Any], *, variant: str = "", svg: bool = False
) -> list[Path]:
    """Each analysis of ``specs`` on ``subject``, into the run's folder and TensorBoard once all are done; returns the
    paths of the figures, PNG and with ``svg`` SVG too.

    ``variant`` marks results that are not of the run's own weights and threshold: ``analysis/<name>-<variant>``.
    """
    analyses = {name: build(spec, f"analysis.{name}") for name, spec in specs.items()}
    results = {written_name(name, variant): analyse(subject) for name, analyse in analyses.items()}
    return [path for name, result in results.items() for path in _write(run, name, result, svg=svg)]


def written_name(name: str, variant: str) -> str:
    """The name that an analysis is written under: its own, unless it is of a ``variant`` of the run."""
    return f"{name}-{variant}" if variant else name


def _write(run: Run, name: str, result: Result, *, svg: bool) -> list[Path]:
    figures = {figure: to_png(drawn) for figure, drawn in result.figures.items()}
    files = {f"{figure}.png": png for figure, png in figures.items()}
    if svg:
        files |= {f"{figure}.svg": to_svg(drawn) for figure, drawn in result.figures.items()}
    if result.arrays:
        np.savez_compressed(buffer := io.BytesIO(), allow_pickle=False, **result.arrays)
        files["arrays.npz"] = buffer.getvalue()
    if result.embedding is not None:
        files |= projector_files(result.embedding)
    paths = run.write_analysis(name, result.numbers, files)
    show_figures(run, name, figures)
    if result.embedding is not None:
        show_embedding(run, name, result.embedding)
    return [path for path in paths if path.stem in figures]
