"""Run analyses and write their results into the run: numbers and labels, arrays, figures."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparse_ae.analysis.base import NoClassesError, Result, Subject
from sparse_ae.analysis.tensorboard import projector_files, show_embedding, show_figures
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.style import to_png, to_svg
from sparse_ae.run.directory import Run

_LABELS = "labels"
"""Key in ``result.json`` of the labels of the numbers that runs are compared by."""


def write_analyses(
    run: Run,
    subject: Subject,
    specs: Mapping[str, Any],
    *,
    variant: str = "",
    svg: bool = False,
    left_out: dict[str, NoClassesError] | None = None,
) -> list[Path]:
    """Do each analysis of ``specs`` on ``subject``, then write all results into the run, also for TensorBoard.

    Returns the paths of the figures, PNG and with ``svg`` SVG too. ``variant`` marks results that are not of the run's
    own weights and threshold: ``analysis/<name>-<variant>``. If ``left_out`` is given, analyses that need classes which
    the data have not are noted there, by name, and left out. Raises ``ConfigError`` for all else that does not fit.
    """
    analyses = {name: build(spec, f"analysis.{name}") for name, spec in specs.items()}
    results = {}
    for name, analyse in analyses.items():
        try:
            results[written_name(name, variant)] = _analyse(analyse, subject, name, specs[name])
        except NoClassesError as error:
            if left_out is None:
                raise
            left_out[name] = error
    return [path for name, result in results.items() for path in _write(run, name, result, svg=svg)]


def written_name(name: str, variant: str) -> str:
    """Name under which an analysis is written: with the ``variant`` of the run behind it, if there is one."""
    return f"{name}-{variant}" if variant else name


def _analyse(analyse: Callable[[Subject], Result], subject: Subject, name: str, spec: Mapping[str, Any]) -> Result:
    """Call the analysis; its objections to an option of its own get the config key in front, as ``build`` does it."""
    try:
        return analyse(subject)
    except ConfigError as error:
        raise (error.under(f"analysis.{name}") if not error.key or error.key in spec else error) from error


def _write(run: Run, name: str, result: Result, *, svg: bool) -> list[Path]:
    figures = {figure: to_png(drawn) for figure, drawn in result.figures.items()}
    files = {f"{figure}.png": png for figure, png in figures.items()}
    if svg:
        files |= {f"{figure}.svg": to_svg(drawn) for figure, drawn in result.figures.items()}
    if result.arrays:
        np.savez_compressed(buffer := io.BytesIO(), allow_pickle=False, **result.arrays)
        files["arrays.npz"] = buffer.getvalue()
    for document, value in result.documents.items():
        files[f"{document}.json"] = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    if result.embedding is not None:
        files |= projector_files(result.embedding)
    paths = run.write_analysis(name, {**result.numbers, _LABELS: dict(result.labels)}, files)
    show_figures(run, name, figures)
    if result.embedding is not None:
        show_embedding(run, name, result.embedding)
    return [path for path in paths if path.suffix in (".png", ".svg")]
