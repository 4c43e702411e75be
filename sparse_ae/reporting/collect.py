"""From folders to the runs in them, each with its state, its configuration and, once finished, its test metrics."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sparse_ae.reporting.columns import METHOD, Flat, as_method, as_number, flatten, sort_key, varying
from sparse_ae.reporting.console import TIMES
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError
from sparse_ae.runs.naming import relevant_config

FINISHED, DAMAGED, NOT_STARTED = "finished", "damaged", "not started"
_ORDER = [FINISHED, "running", NOT_STARTED, "interrupted", "failed", DAMAGED]


class Entry(NamedTuple):
    """One run, as far as it can be read."""

    run: Run
    name: str
    """The folder's name; with its parents' where two have the same."""
    state: str
    error: str
    """Why it failed, was interrupted or cannot be read; else empty."""
    times: dict[str, float | None]
    """By the names of ``TIMES``; None where it is not known yet."""
    config: Flat
    """What changes the result; empty if it cannot be read."""
    metrics: dict[str, float | None]
    """``test/<name>``; empty unless finished. None is undefined."""


class Sweep(NamedTuple):
    """All runs of a report, in the order of the columns in which they differ."""

    entries: list[Entry]
    columns: list[str]
    """The method, then the other keys that differ between the runs."""

    @property
    def finished(self) -> list[Entry]:
        """The runs that have results."""
        return [entry for entry in self.entries if entry.state == FINISHED]

    @property
    def unfinished(self) -> list[Entry]:
        """The others."""
        return [entry for entry in self.entries if entry.state != FINISHED]

    @property
    def verdict(self) -> str:
        """``10 finished``, or ``partial: 7 finished, 2 running, 1 failed``."""
        counts = Counter(entry.state for entry in self.entries)
        states = sorted(counts, key=lambda state: (_ORDER.index(state) if state in _ORDER else len(_ORDER), state))
        text = ", ".join(f"{counts[state]} {state}" for state in states)
        if not self.unfinished:
            return text
        return f"partial: {text}" if self.finished else f"partial: 0 finished, {text}"


def collect(folders: Sequence[Path]) -> Sweep:
    """Every run in ``folders``, however deep. Raises ``RunError`` for a folder that is missing or holds none."""
    paths: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"{folder}: no such folder (allowed: a folder of runs, such as outputs/default)")
        found = list(_run_folders(folder))
        if not found:
            raise RunError(f"{folder}: holds no runs (allowed: a folder of runs, such as outputs/default)")
        paths |= {path.resolve(): path for path in found}
    entries = [_read(path, name) for path, name in zip(paths.values(), _names(list(paths)), strict=True)]
    configs = [entry.config for entry in entries if entry.config]
    columns = [METHOD, *(key for key in varying(configs) if key != METHOD)]
    return Sweep(sorted(entries, key=lambda entry: (sort_key(entry.config, columns), entry.name)), columns)


def is_run(folder: Path) -> bool:
    """Whether a command has made, or begun to make, a run here."""
    return (folder / "status.json").is_file() or (folder / ".hydra" / "config.yaml").is_file()


def _run_folders(folder: Path) -> Iterator[Path]:
    """The runs at or below ``folder``, links followed once."""
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
    """Each folder's name, with as many parents as it takes to tell all apart."""
    depth = 1
    while len(names := {"/".join(path.parts[-depth:]) for path in paths}) < len(paths):
        depth += 1
    repeated = {name for name, count in Counter(path.name for path in paths).items() if count > 1}
    assert len(names) == len(paths)
    return ["/".join(path.parts[-depth:]) if path.name in repeated else path.name for path in paths]


def _read(path: Path, name: str) -> Entry:
    """One run; what is wrong with its files is its own affair and no reason to report nothing of the others."""
    run = Run(path)
    config: Flat = {}
    try:
        config = flatten(relevant_config(run.config), run.choices)
        status = run.status  # before the metrics: those of a finished run are complete
        error = status.error
        found = run.read_state()
        state = NOT_STARTED if found == "new" else found
        metrics = _test_metrics(run) if state == FINISHED else {}
        times = {shown.name: as_number(getattr(status, shown.name)) for shown in TIMES}
        config = as_method(config, run.units if state == FINISHED and "coder" in config else None)
    except Exception as reason:
        known = isinstance(reason, RunError)
        error = " ".join(str(reason).split()) if known else f"cannot be read ({type(reason).__name__}: {reason})"
        return Entry(run, name, DAMAGED, error, {}, config, {})
    return Entry(run, name, state, str(error or ""), times, config, metrics)


def _test_metrics(run: Run) -> dict[str, float | None]:
    found = {name: value for name, value in run.metrics.items() if name.startswith("test/")}
    if not found:
        raise RunError(f"{run.path}: is finished but has no test metrics")
    for name, value in found.items():
        if value is not None and as_number(value) is None:
            raise RunError(f"{run.path}/metrics.json: is damaged ({name} is no number)")
    return found
