"""Outcome of a sweep."""

from typing import NamedTuple

from sparse_ae.run.directory import Run


class Outcome(NamedTuple):
    """End of a sweep."""

    runs: list[Run]
    """Its runs, finished or not."""
    failures: list[str]
    """A line for each run that lacks results, and for overrides that made no valid run."""
    total: int
    """Number of runs that were asked for."""
    signal: int | None
    """Signal by which it was asked to stop, if it was."""

    @property
    def exit_code(self) -> int:
        """0 only if everything is finished, 128 + signal if asked to stop, else 1."""
        return int(bool(self.failures)) if self.signal is None else 128 + self.signal
