"""Collect the runs of folders into one table: the options in which they differ, and their order."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from sparse_ae.reporting.columns import METHOD, SEED, Flat, cell_text
from sparse_ae.reporting.entries import PRUNED, Entry, Sweep, is_run, read_entry
from sparse_ae.reporting.labels import TIMES
from sparse_ae.reporting.search import read_search
from sparse_ae.run.errors import RunError


def collect(folders: Sequence[Path]) -> Sweep:
    """Collect every run in ``folders``, at any depth. Raises ``RunError`` for a folder that is missing or has none."""
    paths: dict[Path, Path] = {}
    for folder in folders:
        found = list(_run_folders(folder))
        if not found:
            reason = "holds no runs" if folder.is_dir() else "no such folder"
            raise RunError(str(folder), reason=reason, expected="a folder of runs, such as outputs/default")
        paths |= {path.resolve(): path for path in found}
    entries = [read_entry(path, name) for path, name in zip(paths.values(), _names(list(paths)), strict=True)]
    pruned = {path for folder in folders for path in _pruned(folder)}
    entries = [
        e._replace(state=PRUNED) if e.state == "interrupted" and e.run.path.resolve() in pruned else e for e in entries
    ]
    configs = [entry.config for entry in entries if entry.config]
    columns = [METHOD, *(key for key in varying(configs) if key != METHOD)]
    return Sweep(in_order(sorted(entries, key=lambda entry: entry.name), columns), columns)


def _pruned(folder: Path) -> list[Path]:
    """Runs that a search in ``folder`` has pruned; none of a search whose record is damaged, which its figure tells."""
    try:
        search = read_search(folder)
    except RunError:
        return []
    pruned = [trial for trial in search.trials if trial.state == "pruned"] if search else []
    return [(folder / trial.run).resolve() for trial in pruned if trial.run is not None]


def varying(configs: Sequence[Flat]) -> list[str]:
    """List the keys in which ``configs`` differ, in the order of the configurations; the seed comes last.

    A key that only some runs have varies if it does among runs with the same option of its section, such as
    ``sparsity``. A key that always repeats the top-level key of its name, as ``data.seed`` does, is left out.
    """
    text = _config_text(configs)
    keys = [key for key in text if _varies(text, key) and not _repeats(text, key)]
    return sorted(keys, key=lambda key: key == SEED)


def in_order(entries: Sequence[Entry], keys: Sequence[str]) -> list[Entry]:
    """Sort by the options ``keys``: numbers by size, then text, then missing keys. Ties keep their order."""
    text = _config_text([entry.config for entry in entries]).reindex(columns=list(keys))
    return [entries[place] for place in text.sort_values(list(keys), key=_rank, kind="stable").index]


def as_frame(sweep: Sweep) -> pd.DataFrame:
    """Return a row per run, by name: its path, the options in which runs differ, test metrics, ``TIMES``, ``state``.

    A cell is empty if it is unknown, undefined or not among the keys of the run.
    """
    rows = {
        entry.name: {
            **{column: entry.config.get(column) for column in sweep.columns},
            **entry.metrics,
            **{time.name: entry.times.get(time.name) for time in TIMES},
            "state": entry.state,
            "path": str(entry.run.path),
        }
        for entry in sweep.entries
    }
    return pd.DataFrame(list(rows.values()), index=pd.Index(rows, name="run")).infer_objects()


def to_csv(sweep: Sweep) -> str:
    """Return a row per run: ``run``, the options in which runs differ, test metrics, ``TIMES``, ``state``.

    Numbers have full precision. A cell is empty if it is unknown, undefined or not among the keys of the run.
    """
    entries = sweep.entries
    parts = [
        pd.DataFrame({"run": [entry.name for entry in entries]}, dtype=object),
        _config_text([entry.config for entry in entries]).reindex(columns=sweep.columns),
        pd.DataFrame([entry.metrics for entry in entries], dtype=object),
        pd.DataFrame([entry.times for entry in entries], columns=[time.name for time in TIMES], dtype=object),
        pd.DataFrame({"state": [entry.state for entry in entries]}, dtype=object),
    ]
    return str(pd.concat(parts, axis=1).to_csv(index=False, lineterminator="\n"))


def _config_text(configs: Sequence[Flat]) -> pd.DataFrame:
    """Return options as text, a row per run; NaN where a run has no such key.

    As values, pandas would turn a whole number into 64.0 beside a missing one, and None into a missing one.
    """
    return pd.DataFrame([{key: cell_text(value) for key, value in config.items()} for config in configs], dtype=object)


def _varies(text: pd.DataFrame, key: str) -> bool:
    if text[key].nunique() > 1:
        return True
    section = key.partition(".")[0] if "." in key and not key.startswith("coder.") else METHOD
    options = text[section].fillna("null") if section in text else pd.Series("null", index=text.index)
    return bool((text[key].isna().groupby(options).nunique() > 1).any())


def _repeats(text: pd.DataFrame, key: str) -> bool:
    section, _, leaf = key.rpartition(".")
    own = text[key].dropna()
    return bool(section) and leaf in text and bool((text.loc[own.index, leaf] == own).all())


def _rank(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.rank(method="dense").fillna(column.rank(method="dense") + len(column))


def _run_folders(folder: Path) -> Iterator[Path]:
    """List the runs at or below ``folder``; links are followed once."""
    seen: set[Path] = set()
    for here, below, _ in os.walk(folder, followlinks=True):
        path = Path(here)
        if path.resolve() in seen:
            below.clear()
            continue
        seen.add(path.resolve())
        if is_run(path):
            below.clear()
            yield path
        else:
            below[:] = sorted(name for name in below if not name.startswith("."))


def _names(paths: Sequence[Path]) -> list[str]:
    """Name each folder, with as many parents as it takes to tell all apart."""
    depth = 1
    while len(names := {"/".join(path.parts[-depth:]) for path in paths}) < len(paths):
        depth += 1
    repeated = {name for name, count in Counter(path.name for path in paths).items() if count > 1}
    assert len(names) == len(paths)
    return ["/".join(path.parts[-depth:]) if path.name in repeated else path.name for path in paths]
