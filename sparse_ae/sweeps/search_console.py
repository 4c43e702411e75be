"""Console output of a search: the trials of each batch, and at the end the best of all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from sparse_ae.reporting.console import console, shell_line
from sparse_ae.reporting.search import Search
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.console import suggest
from sparse_ae.sweeps.plan import Planned, Rejected
from sparse_ae.sweeps.ranges import Space


def announce_batch(
    made: Mapping[int, Planned | Rejected],
    space: Space,
    params: Mapping[int, Mapping[str, Any]],
    n_trials: int,
    place: Path,
) -> None:
    """Print a line for each trial of a batch: its options and run, or why it has none."""
    out = console()
    out.print(f"{place}: {len(made)} trials at a time, {n_trials} in all", markup=False)
    for number, trial in made.items():
        own = " ".join(space.own(params[number]))
        if isinstance(trial, Rejected):
            out.print(f"trial {number}: left out {own}  {trial.why}", markup=False)
        else:
            settled = "  already finished" if trial.is_done else ""
            out.print(f"trial {number}: {trial.run.path.name}  {own}{settled}", markup=False)


def summarize_search(
    found: Search,
    n_trials: int,
    space: Space,
    place: Path,
    runs: Sequence[Run],
    name: str,
    again: Sequence[str],
    trouble: str | None,
) -> None:
    """Print the best trials, those that failed, and commands: to repeat the best, to resume, to report.

    ``again`` are the overrides of the command ``name``; ``trouble`` is why the search has ended early, if it did not
    by a signal.
    """
    out = console()
    ended = [trial for trial in found.trials if trial.state != "running"]
    pruned = sum(trial.state == "pruned" for trial in found.trials)
    also = f", {pruned} pruned" if pruned else ""
    out.print(f"{len(found.complete)} of {n_trials} trials are finished{also}", markup=False)
    if trouble is not None:
        out.print(trouble, markup=False)
    failed = [trial for trial in found.trials if trial.why]
    if failed:
        table = Table(title="not finished", title_justify="left")
        for column in ("trial", "run", "why"):
            table.add_column(column, overflow="fold")
        for trial in failed:
            own = " ".join(space.own(trial.params))
            table.add_row(str(trial.number), escape(trial.run or own), escape(trial.why))
        out.print(table)
    if best := found.best:
        table = Table(title="best" if len(found.metric) == 1 else "front", title_justify="left")
        for column in ("trial", "run", *found.metric, *space.ranges):
            table.add_column(column, overflow="fold")
        for trial in best:
            values = [_short(value) for value in (*trial.values, *(trial.params[key] for key in space.ranges))]
            table.add_row(str(trial.number), *map(escape, [trial.run or "", *values]))
        out.print(table)
    if len(found.metric) == 1 and best:
        out.print(f"repeat:   {shell_line(f'sparse-ae-{name}', *space.overrides(best[0].params))}", markup=False)
    if len(ended) < n_trials:
        out.print(f"resume:   {shell_line(f'sparse-ae-{name}', '-m', *again)}", markup=False)
    else:
        out.print(f"all trials are done; a larger hydra.sweeper.n_trials goes on: {place}", markup=False)
    if runs:
        suggest([place], runs)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
