"""Results of analyses as reports read them: numbers, their labels, and the order to read analyses in."""

from typing import Any, NamedTuple

from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError


class Found(NamedTuple):
    """Result of one analysis of one run."""

    numbers: dict[str, Any]
    """Numbers by name; empty if the analysis was not done."""
    labels: dict[str, str]
    """Labels of the numbers that runs are compared by, in order; empty if the analysis names none."""


def read_found(run: Run, analysis: str) -> Found:
    """Read ``result.json`` of an analysis. Raises ``RunError`` if it is damaged."""
    numbers = run.read_analysis(analysis)
    labels = numbers.pop("labels", {})
    return Found(numbers, labels)


def reading_order(run: Run) -> list[str]:
    """Analyses of a run in the order to read them: those that its configuration names first, then by name.

    ``sparsity-0.5``, found at another threshold, follows ``sparsity``.
    """
    try:
        first = list(run.config.get("analysis", {}))
    except RunError:  # damaged: by name alone
        first = []

    def key(analysis: str) -> tuple[int, str]:
        name = analysis.partition("-")[0]
        return (first.index(name) if name in first else len(first), analysis)

    return sorted(run.analyses, key=key)
