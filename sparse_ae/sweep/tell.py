"""What a sweep says before its jobs begin and after they have ended."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from sparse_ae.reporting.console import console, key_metrics
from sparse_ae.runs.errors import RunError
from sparse_ae.sweep.plan import Planned, Rejected


def announce(
    planned: Sequence[Planned], rejected: Sequence[Rejected], todo: Sequence[Planned], folders: Sequence[Path]
) -> None:
    """How many runs, and a line for each that is not trained."""
    out = console()
    out.print(f"{', '.join(map(str, folders))}: {len(planned)} runs, {len(todo)} to train", markup=False)
    for p in planned:
        if p not in todo:
            what = _results(p) if p.state == "finished" else _why(p)
            out.print(f"skipped  {p.run.path.name}  {p.state} already  {what}", markup=False)
        for overrides in p.same:
            out.print(f"the same {p.run.path.name}  {' '.join(overrides)} makes no other run", markup=False)
    for r in rejected:
        out.print(f"left out {' '.join(r.overrides)}  {r.why}", markup=False)


def summarize(
    planned: Sequence[Planned],
    rejected: Sequence[Rejected],
    folders: Sequence[Path],
    program: str,
    trouble: str | None,
) -> None:
    """What is not finished, why, and the command, of ``program``, that goes on; ``trouble`` is why some may not have
    started.
    """
    bad = [p for p in planned if not p.is_done]
    out = console()
    out.print(f"{len(planned) - len(bad)} of {len(planned) + len(rejected)} runs are finished", markup=False)
    if bad or rejected:
        table = Table(title="not finished", title_justify="left")
        for column in ("run", "state", "why"):
            table.add_column(column, overflow="fold")
        for p in bad:
            table.add_row(p.run.path.name, p.state, escape(_why(p, trouble)))
        for r in rejected:
            table.add_row(escape(" ".join(r.overrides)), "bad override", escape(r.why))
        out.print(table)
    if bad:
        again = [argument for argument in sys.argv[1:] if not argument.startswith("rerun=")]
        out.print(f"retry:    {shlex.join([program, *again])}", markup=False)
    together, into = str(folders[0]), []
    if len(folders) > 1:
        together = os.path.relpath(os.path.commonpath([folder.absolute() for folder in folders]))
        into = ["--into", together]
    out.print(f"report:   {shlex.join(['sparse-ae-report', *map(str, folders), *into])}", markup=False)
    out.print(f"watch:    {shlex.join(['tensorboard', '--logdir', together])}", markup=False)


def _results(p: Planned) -> str:
    try:
        return key_metrics(p.run)
    except RunError as damage:
        return str(damage)


def _why(p: Planned, trouble: str | None = None) -> str:
    """Why a run is not finished; ``trouble`` is why it may not have started."""
    try:
        error = p.run.status.get("error")
    except RunError as damage:
        return f"{damage} (allowed: rerun=all to replace it)"
    if p.state == "finished":
        return f"has no analysis {', '.join(p.lacks)}; see {p.run.shown_path / p.run.log.name}"
    if p.state == "new":
        if trouble:
            return trouble
        return f"did not start; see {p.run.shown_path / p.run.log.name}" if p.run.log.exists() else "did not start"
    return error or "its process died"
