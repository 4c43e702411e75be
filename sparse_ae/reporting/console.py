"""Console output of every command: single lines, the metrics of a run, and the table of many runs."""

import logging
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparse_ae.reporting.entries import Sweep
from sparse_ae.reporting.labels import KEY_METRICS, METRICS, TIMES
from sparse_ae.run.directory import Run

log = logging.getLogger(__name__)

_WIDTH = 100
"""Characters in a line where no terminal sets the limit; paths are never broken."""
_WIDEST = 1000
"""Limit of the table of runs where no terminal sets one."""


@cache
def console() -> Console:
    """Return the console on standard output that all lines, tables and progress bars of a process share.

    A notebook gets plain text, as a file does.
    """
    is_notebook = Console().is_jupyter
    out = Console(
        soft_wrap=True,
        highlight=False,
        emoji=False,
        force_jupyter=False,
        force_terminal=False if is_notebook else None,  # it sets FORCE_COLOR
    )
    if not out.is_terminal:
        out.width = _WIDTH
    return out


def tell(line: str) -> None:
    """Print a line, above a progress bar if there is one, and write it into the log of the run under way."""
    console().print(_plain(line))
    log.info(line)


def warn(line: str) -> None:
    """Tell a line that begins with ``warning:``."""
    tell(f"warning: {line}")


def shell_line(*arguments: str | Path) -> str:
    """Return a command as it is to be typed in a shell.

    A path that begins with a dash, and would be taken for a flag, is written with its folder.

    >>> shell_line("sparse-ae-report", Path("a b"), Path("-c"))
    "sparse-ae-report 'a b' ./-c"
    """
    is_flag = [isinstance(argument, Path) and str(argument).startswith("-") for argument in arguments]
    return shlex.join(f"./{a}" if dashed else str(a) for a, dashed in zip(arguments, is_flag, strict=True))


def print_metrics(metrics: Mapping[str, float | None], split: str, *, title: str, units: int) -> None:
    """Print the metrics of one split as a table, numbers of units out of ``units``."""
    table = Table(title=_plain(title), title_justify="left")
    table.add_column(split)
    table.add_column("value", justify="right")
    for shown in METRICS:
        text = shown.text(metrics.get(f"{split}/{shown.name}")) or "undefined"
        label = f"{shown.label} ({shown.meaning})" if shown.meaning else shown.label
        table.add_row(label, f"{text} / {units}" if shown.counts_units else text)
    console().print(table)


def key_metrics(run: Run) -> str:
    """Return a finished run as one line: ``MSE 0.00470  FVU 0.0700  L0 49.4 ...``"""
    units, metrics = run.units, run.metrics
    parts = [
        f"{shown.brief} {text}{f'/{units}' if shown.counts_units else ''}"
        for shown in KEY_METRICS
        if (text := shown.text(metrics.get(f"test/{shown.name}")))
    ]
    if run.status.stopped:
        parts.append("stopped early")
    target = run.status.target
    if target and not target["met"]:
        parts.append(f"target {target['measure']}={target['wanted']:g} missed")
    return "  ".join(parts)


def print_run(run: Run, *ideas: str) -> None:
    """Print a finished run's test metrics, the places of its files, and ``ideas`` of what to run next."""
    path = run.shown_path
    print_metrics(run.metrics, "test", title=run.path.name, units=run.units)
    figures = [str(figure.relative_to(run.path)) for figure in run.figures]
    tell(f"run:      {path}")
    tell(f"took:     {', '.join(_times(run))}")
    if stopped := run.status.stopped:
        tell(f"stopped:  early, {stopped}")
    if figures:
        tell(f"figures:  {', '.join(figures)}")
    tell(f"report:   {path / 'report.html'}")
    if run.event_files:
        tell(f"watch:    {shell_line('tensorboard', '--logdir', path.parent)}")
    for label, idea in zip(("next:", *[""] * len(ideas)), ideas, strict=False):
        tell(f"{label:<10}{idea}")


def print_sweep(sweep: Sweep, title: str) -> None:
    """Print the runs with their key metrics, the number in each state, and why runs are not finished."""
    table = Table(title=_plain(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=12)
    for column in sweep.columns:
        table.add_column(_plain(column.replace(".", ".\n")), overflow="fold", min_width=4)
    for shown in (*KEY_METRICS, *TIMES):
        table.add_column(shown.label.replace(" ", "\n"), justify="right", overflow="fold", min_width=7)
    table.add_column("state", overflow="fold", min_width=8)
    for entry in sweep.entries:
        config = map(entry.config_text, sweep.columns)
        cells = [*config, *map(entry.metric_text, KEY_METRICS), *map(entry.time_text, TIMES)]
        table.add_row(*map(_plain, [entry.name, *cells, entry.state]))
    out = console()
    if not out.is_terminal:
        width = out.measure(table, options=out.options.update(max_width=_WIDEST)).maximum
        out = Console(soft_wrap=True, highlight=False, width=width)
    out.print(table)
    tell(sweep.verdict)
    for entry in sweep.unfinished:
        tell(f"  {entry.state}: {entry.name}{f': {entry.error}' if entry.error else ''}")


def _times(run: Run) -> Iterator[str]:
    status = run.status
    for shown in TIMES:
        if text := shown.text(getattr(status, shown.name)):
            yield f"{text} {shown.meaning}"


def _plain(text: str) -> Text:
    """Return text, perhaps from a run's files, without markup or characters that control a terminal."""
    return Text("".join(character if character.isprintable() or character == "\n" else " " for character in text))
