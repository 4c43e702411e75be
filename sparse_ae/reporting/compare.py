"""What analyses found in the runs of a folder, side by side: a table of their single numbers, a figure for each."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sparse_ae.atomic import write_atomically
from sparse_ae.plotting import dot_panels, to_png
from sparse_ae.reporting.analyses import KEY_NUMBERS, built_in_name
from sparse_ae.reporting.collect import collect
from sparse_ae.reporting.columns import METHOD, as_number, group_name
from sparse_ae.reporting.entries import Entry

_DPI = 150

Array = npt.NDArray[np.floating]


def write_comparison(folder: Path, analyses: Sequence[str]) -> list[Path]:
    """Write ``analysis.csv``, a row per finished run, and ``analysis/<name>.png`` into ``folder``; returns the paths.

    The table has every single number. The figures have those that are not the same in all runs: of a built-in analysis
    its key numbers, of any other all.
    """
    sweep = collect([folder])
    runs, columns = sweep.finished, sweep.columns
    table = {name: _numbers(runs, name) for name in analyses}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *columns, *(f"{name}/{key}" for name, numbers in table.items() for key in numbers)])
    for row, run in enumerate(runs):
        found = [values[row] for numbers in table.values() for values in numbers.values()]
        cells = ["" if np.isnan(value) else repr(float(value)) for value in found]
        writer.writerow([run.name, *(run.config_text(column) for column in columns), *cells])
    written = [folder / "analysis.csv"]
    write_atomically(written[0], text.getvalue().encode(errors="replace"))
    (folder / "analysis").mkdir(exist_ok=True)
    for name, numbers in table.items():
        drawn = _drawn(name, numbers)
        if drawn:
            methods = [str(run.config.get(METHOD, "unknown")) for run in runs]
            figure = dot_panels(
                drawn, methods, [group_name(run.config, columns) for run in runs], title=f"{name}, run by run"
            )
            written.append(folder / "analysis" / f"{name}.png")
            write_atomically(written[-1], to_png(figure, _DPI, palette=True))
    return written


def _drawn(analysis: str, numbers: Mapping[str, Array]) -> dict[str, Array]:
    """What of an analysis is drawn, by label."""
    labels = KEY_NUMBERS.get(built_in_name(analysis), {})
    if labels.keys().isdisjoint(numbers):  # a user's own
        labels = {key: key.replace("_", " ") for key in numbers}
    differing = {key for key, values in numbers.items() if len(np.unique(values[~np.isnan(values)])) > 1}
    return {label: numbers[key] for key, label in labels.items() if key in differing}


def _numbers(runs: Sequence[Entry], analysis: str) -> dict[str, Array]:
    """The single numbers ``(R,)`` of an analysis by name; NaN where a run has none."""
    results = [run.run.read_analysis(analysis) for run in runs]
    keys = dict.fromkeys(key for result in results for key, value in result.items() if as_number(value) is not None)
    return {
        key: np.array([np.nan if (v := as_number(result.get(key))) is None else v for result in results])
        for key in keys
    }
