"""Results of analyses of the runs of a folder, side by side: a table of their single numbers, a figure for each."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sparse_ae.atomic import write_atomically
from sparse_ae.plotting.comparison import dot_panels
from sparse_ae.plotting.style import to_png
from sparse_ae.reporting.analyses import Found, read_found
from sparse_ae.reporting.collect import collect
from sparse_ae.reporting.columns import METHOD, as_number, group_name

_DPI = 150

Array = npt.NDArray[np.floating]


def write_comparison(folder: Path, analyses: Sequence[str]) -> list[Path]:
    """Write ``analysis.csv``, a row per finished run, and ``analysis/<name>.png`` into ``folder``; returns the paths.

    The table has every single number. The figures have the numbers that differ between runs: those with a label, or
    all numbers of an analysis that has no labels.
    """
    sweep = collect([folder])
    runs, columns = sweep.finished, sweep.columns
    found = {name: [read_found(run.run, name) for run in runs] for name in analyses}
    table = {name: _numbers(results) for name, results in found.items()}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *columns, *(f"{name}/{key}" for name, numbers in table.items() for key in numbers)])
    for row, run in enumerate(runs):
        values = [column[row] for numbers in table.values() for column in numbers.values()]
        cells = ["" if np.isnan(value) else repr(float(value)) for value in values]
        writer.writerow([run.name, *(run.config_text(column) for column in columns), *cells])
    written = [folder / "analysis.csv"]
    write_atomically(written[0], text.getvalue().encode(errors="replace"))
    (folder / "analysis").mkdir(exist_ok=True)
    methods = [str(run.config.get(METHOD, "unknown")) for run in runs]
    groups = [group_name(run.config, columns) for run in runs]
    for name, numbers in table.items():
        drawn = _drawn(numbers, found[name])
        if drawn:
            figure = dot_panels(drawn, methods, groups, title=f"{name}, run by run")
            written.append(folder / "analysis" / f"{name}.png")
            write_atomically(written[-1], to_png(figure, _DPI, palette=True))
    return written


def _drawn(numbers: Mapping[str, Array], found: Sequence[Found]) -> dict[str, Array]:
    """Numbers of an analysis to draw, by label."""
    labels = {key: label for result in found for key, label in result.labels.items()}
    labels = labels or {key: key.replace("_", " ") for key in numbers}
    differing = {key for key, values in numbers.items() if len(np.unique(values[~np.isnan(values)])) > 1}
    return {label: numbers[key] for key, label in labels.items() if key in differing}


def _numbers(found: Sequence[Found]) -> dict[str, Array]:
    """Single numbers ``(R,)`` of an analysis by name; NaN where a run has none."""
    keys = dict.fromkeys(
        key for result in found for key, value in result.numbers.items() if as_number(value) is not None
    )
    return {
        key: np.array([np.nan if (v := as_number(result.numbers.get(key))) is None else v for result in found])
        for key in keys
    }
