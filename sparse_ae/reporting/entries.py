"""Runs as a report has them: state, configuration and results of each, as far as its files can be read."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from sparse_ae.reporting.columns import METHOD, Flat, as_method, as_number, cell_text, flat_config
from sparse_ae.reporting.labels import TIMES, Shown
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError
from sparse_ae.run.naming import relevant_config

FINISHED, PRUNED, DAMAGED, NOT_STARTED = "finished", "pruned", "damaged", "not started"
_ORDER = [FINISHED, PRUNED, "running", NOT_STARTED, "interrupted", "failed", DAMAGED]
_UNREADABLE = (OSError, RecursionError, ValueError, TypeError, AttributeError)
"""Exceptions of files that are missing, nested too deeply, or hold values of another type."""


class Entry(NamedTuple):
    """One run, as far as it can be read."""

    run: Run
    """Directory of the run."""
    name: str
    """Name of the folder, with parents where two folders have the same name."""
    state: str
    """State of ``status.json``, ``not started``, ``damaged``, or ``pruned`` by a search."""
    error: str
    """Reason why the run failed, was interrupted or cannot be read; else empty."""
    times: dict[str, float | None]
    """Times by the names of ``TIMES``; None if not yet known."""
    config: Flat
    """Options that change the result; empty if they cannot be read."""
    metrics: dict[str, float | None]
    """Metrics ``test/<name>``, None if undefined; empty unless the run is finished."""
    stopped: str = ""
    """Step and reason of a training that ended early; else empty."""

    @property
    def method(self) -> str:
        """Name of the sparsity method or classical coder."""
        return str(self.config.get(METHOD, "unknown"))

    def config_text(self, key: str) -> str:
        """Return an option as text; empty if the configuration has no such key."""
        return cell_text(self.config[key]) if key in self.config else ""

    def metric_text(self, metric: Shown) -> str:
        """Return a test metric as shown; empty if there is none."""
        return metric.text(self.metrics.get(f"test/{metric.name}"))

    def time_text(self, time: Shown) -> str:
        """Return a time as shown; empty if unknown."""
        return time.text(self.times.get(time.name))


class Sweep(NamedTuple):
    """All runs of a report."""

    entries: list[Entry]
    """Runs in the order of ``columns``."""
    columns: list[str]
    """Keys of the method and of the other options that differ between the runs."""

    @property
    def finished(self) -> list[Entry]:
        """Runs that have results."""
        return [entry for entry in self.entries if entry.state == FINISHED]

    @property
    def unfinished(self) -> list[Entry]:
        """Runs that still lack results."""
        return [entry for entry in self.entries if entry.state not in (FINISHED, PRUNED)]

    @property
    def verdict(self) -> str:
        """Number of runs in each state: ``10 finished``, or ``partial: 7 finished, 2 running, 1 failed``."""
        counts = Counter(entry.state for entry in self.entries)
        states = sorted(counts, key=lambda state: (_ORDER.index(state) if state in _ORDER else len(_ORDER), state))
        text = ", ".join(f"{counts[state]} {state}" for state in states)
        if not self.unfinished:
            return text
        return f"partial: {text}" if self.finished else f"partial: 0 finished, {text}"


def is_run(folder: Path) -> bool:
    """True if a command has made, or begun to make, a run in ``folder``."""
    return (folder / "status.json").is_file() or (folder / ".hydra" / "config.yaml").is_file()


def read_entry(path: Path, name: str) -> Entry:
    """Read one run; unreadable files are reported for that run only."""
    run = Run(path)
    config: Flat = {}
    try:
        config = flat_config(relevant_config(run.config), run.choices)
        status = run.status  # before the metrics: those of a finished run are complete
        found = run.read_state()
        state = NOT_STARTED if found == "new" else found
        metrics = _test_metrics(run) if state == FINISHED else {}
        times = {shown.name: as_number(getattr(status, shown.name)) for shown in TIMES}
        config = as_method(config, run.units if state == FINISHED and "coder" in config else None)
    except RunError as damage:
        return Entry(run, name, DAMAGED, " ".join(str(damage).split()), {}, config, {})
    except _UNREADABLE as damage:
        return Entry(run, name, DAMAGED, f"cannot be read ({type(damage).__name__}: {damage})", {}, config, {})
    return Entry(run, name, state, status.error or "", times, config, metrics, status.stopped or "")


def _test_metrics(run: Run) -> dict[str, float | None]:
    found = {name: value for name, value in run.metrics.items() if name.startswith("test/")}
    if not found:
        raise RunError(str(run.path), reason="is finished but has no test metrics")
    for name, value in found.items():
        if value is not None and as_number(value) is None:
            raise RunError(f"{run.path}/metrics.json", reason=f"is damaged ({name} is not a number)")
    return found
