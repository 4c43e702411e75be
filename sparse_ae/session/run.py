"""A run as a Python session has it: its numbers as tables, its model, its pictures."""

import base64
import io
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from sparse_ae.coders import DictionaryCoder
from sparse_ae.config.errors import did_you_mean, listed
from sparse_ae.config.groups import targets
from sparse_ae.models import SparseAutoencoder
from sparse_ae.plotting.curves import Curves, curve_panels
from sparse_ae.plotting.style import to_png
from sparse_ae.reporting.analyses import read_found
from sparse_ae.reporting.console import key_metrics
from sparse_ae.reporting.curves import read_all_curves
from sparse_ae.reporting.labels import METRICS
from sparse_ae.run.directory import Run as Directory
from sparse_ae.run.errors import RunError
from sparse_ae.run.export import load

_CURVES = ("train/loss", "train/fvu", "val/mse")
"""Scalars that a run shows over training, of those that it has."""
_PICTURES = ("features.png", "overview/features.png")
"""Figures of which a run shows the first that it has."""


_PIXELS = 640
"""Width of a figure that stands for a run."""


class Picture(bytes):
    """A PNG, which a notebook shows."""

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def __repr__(self) -> str:
        return f"Picture({len(self)} bytes)"


class Analysis(NamedTuple):
    """Results of an analysis of a run."""

    numbers: dict[str, Any]
    """Numbers by name; None where undefined."""
    arrays: dict[str, npt.NDArray[Any]]
    """Arrays by name."""
    figures: dict[str, Picture]
    """Figures by name."""

    def _repr_html_(self) -> str:
        single = {name: value for name, value in self.numbers.items() if not isinstance(value, dict | list)}
        return _table(single) + "".join(_image(picture) for picture in self.figures.values())


class Run(Directory):
    """One run, finished or not, in its folder ``path``. A notebook shows its metrics, curves and atoms.

    ``metrics`` are those of ``metrics.json`` by name, ``config`` is the composed configuration, ``figures`` are the
    paths of all figures, and ``status`` has state, times and versions.
    """

    @cached_property
    def model(self) -> SparseAutoencoder | DictionaryCoder:
        """The trained coder, in evaluation mode, on the CPU. Raises ``RunError`` before the run is finished."""
        return load(self)

    @property
    def history(self) -> pd.DataFrame:
        """Everything logged in training, a column each by name, by step; NaN where it was not logged at that step."""
        curves = read_all_curves(self)
        columns = {name: pd.Series(curve.value, index=curve.step) for name, curve in sorted(curves.items())}
        return pd.DataFrame(columns).rename_axis("step")

    def analysis(self, name: str) -> Analysis:
        """Results of an analysis that was done. Raises ``RunError`` for one that was not."""
        if not self.has_analysis(name):
            if name not in (known := targets("analysis")):
                raise RunError("analysis", name, f"no such analysis{did_you_mean(name, known)}", listed(known))
            done = ", ".join(self.analyses) or "none yet"
            raise RunError("analysis", name, f'not done of this run; sparse_ae.analyse(run, "{name}") does it', done)
        arrays = {}
        file = self.path / "analysis" / name / "arrays.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
        figures = {path.stem: Picture(path.read_bytes()) for path in self.figures_of(name)}
        return Analysis(read_found(self, name).numbers, arrays, figures)

    def __repr__(self) -> str:
        state = self.read_state()
        return f"Run({str(self.shown_path)!r}): {f'{state}  {key_metrics(self)}' if state == 'finished' else state}"

    def _repr_html_(self) -> str:
        metrics = self.metrics
        shown = {metric.label: metric.text(metrics.get(f"test/{metric.name}")) for metric in METRICS} if metrics else {}
        parts = [f"<p><b>{escape(self.path.name)}</b> {escape(self.read_state())}</p>", _table(shown)]
        history = self.history
        lines = [(tag, history[tag].dropna()) for tag in _CURVES if tag in history]
        if lines:
            panels = [Curves(tag, [(line.index.to_numpy(), line.to_numpy())]) for tag, line in lines]
            parts.append(
                _image(
                    to_png(
                        curve_panels(panels, [self.path.name], np.array([np.nan]), title="Training"),
                        dpi=72,
                        palette=True,
                    )
                )
            )
        found = {path.relative_to(self.path / "analysis").as_posix(): path for path in self.figures}
        pictures = [path for name, path in found.items() if name.endswith(_PICTURES)]
        parts.extend(_image(_small(path)) for path in pictures[:1])
        return "".join(parts)


def _small(path: Path) -> bytes:
    """A figure at the width of a notebook, as JPEG in a tenth of the bytes."""
    with Image.open(path) as picture:
        picture.thumbnail((_PIXELS, _PIXELS))
        picture.convert("RGB").save(buffer := io.BytesIO(), format="jpeg", quality=80)
    return buffer.getvalue()


def _table(values: dict[str, Any]) -> str:
    cells = (f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f"<table>{''.join(cells)}</table>" if values else ""


def _image(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f'<img style="max-width: 100%" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
