"""Console output of a sweep: the plan, a line for each job that ends, progress, and a summary of failures."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.markup import escape
from rich.status import Status as StatusLine
from rich.table import Table

from sparse_ae.reporting.console import console, key_metrics, shell_line
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError
from sparse_ae.sweeps.plan import Planned, Rejected
from sparse_ae.sweeps.process import StopFile

_POLL_SECONDS = 0.5
_PLAIN_SECONDS = 60
"""Interval of progress lines where the output is not a terminal."""


def announce(
    planned: Sequence[Planned], rejected: Sequence[Rejected], todo: Sequence[Planned], folders: Sequence[Path]
) -> None:
    """Print the number of runs, and a line for each that is skipped."""
    out = console()
    to_analyse = sum(p.lacks_analyses_only for p in todo)
    analysed = f", {to_analyse} to analyse" if to_analyse else ""
    where = ", ".join(map(str, folders))
    out.print(f"{where}: {len(planned)} runs, {len(todo) - to_analyse} to train{analysed}", markup=False)
    for p in planned:
        if p not in todo:
            what = _results(p) if p.state == "finished" else why(p)
            out.print(f"skipped  {p.run.path.name}  already {p.state}  {what}", markup=False)
        for overrides in p.same:
            own = [override for override in overrides if override not in p.overrides] or overrides
            out.print(f"duplicate of {p.run.path.name}: {' '.join(own)}", markup=False)
    for r in rejected:
        out.print(f"left out {' '.join(r.overrides)}  {r.why}", markup=False)


def summarize(
    planned: Sequence[Planned],
    rejected: Sequence[Rejected],
    folders: Sequence[Path],
    retry: Sequence[str],
    trouble: str | None,
) -> None:
    """Print the runs that are not finished, with reasons, and the command ``retry`` that retries them.

    ``trouble`` is the reason that some may not have started.
    """
    bad = [p for p in planned if not p.is_done]
    out = console()
    out.print(f"{len(planned) - len(bad)} of {len(planned) + len(rejected)} runs are finished", markup=False)
    if bad or rejected:
        table = Table(title="not finished", title_justify="left")
        for column in ("run", "state", "why"):
            table.add_column(column, overflow="fold")
        for p in bad:
            table.add_row(escape(p.run.path.name), p.state, escape(why(p, trouble)))
        for r in rejected:
            table.add_row(escape(" ".join(r.overrides)), "bad override", escape(r.why))
        out.print(table)
    if bad:
        out.print(f"retry:    {shell_line(*retry)}", markup=False)
    suggest(folders, [p.run for p in planned])


def suggest(folders: Sequence[Path], runs: Sequence[Run]) -> None:
    """Print the commands that report on a sweep's ``folders`` and that show what its ``runs`` logged."""
    out = console()
    together, into = folders[0], list[str | Path]()
    if len(folders) > 1:
        together = Path(os.path.relpath(os.path.commonpath([folder.absolute() for folder in folders])))
        into = ["--into", together]
    out.print(f"report:   {shell_line('sparse-ae-report', *folders, *into)}", markup=False)
    if any(run.event_files for run in runs):
        out.print(f"watch:    {shell_line('tensorboard', '--logdir', together)}", markup=False)


def _results(p: Planned) -> str:
    try:
        return key_metrics(p.run)
    except RunError as damage:
        return str(damage)


def why(p: Planned, trouble: str | None = None) -> str:
    """Reason that a run is not finished; ``trouble`` is one that it may not have started."""
    try:
        error = p.run.status.error
    except RunError as damage:
        return f"{damage}; rerun=all replaces it"
    if p.state == "finished":
        return f"lacks the analysis {', '.join(p.lacks)}; see {p.run.shown_path / p.run.log.name}"
    if p.state == "new":
        if trouble:
            return trouble
        return f"did not start; see {p.run.shown_path / p.run.log.name}" if p.run.log.exists() else "did not start"
    return error or "its process was killed"


class Watch:
    """Inside ``with``, print how each run of ``todo`` ends and how far the others are.

    It reads their folders, so it works whatever process trains or analyses them.
    """

    def __init__(self, todo: Sequence[Planned], stop: StopFile) -> None:
        self.runs = [p.run for p in todo]
        self._to_analyse = {p.run.path: p for p in todo if p.lacks_analyses_only}
        """Runs that train no more, until they are seen to be trained all the same."""
        self._stop_file = stop
        self._ended: set[Path] = set()
        self._out = console()
        self._started = time.monotonic()
        self._shown_at = self._started
        self._share_at_start = self._share_done()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._line = StatusLine("", console=self._out)
        self._said: set[str] = set()

    def __enter__(self) -> "Watch":
        self._attempts = {run.path: run.record.read_last().attempts for run in self.runs}
        if self._out.is_terminal:
            self._line.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show_ended()
        self._show_stop()  # the jobs may have ended within one interval
        self._line.stop()

    def say_once(self, line: str) -> None:
        """Print a line above the progress, unless it was printed before."""
        if line not in self._said:
            self._said.add(line)
            self._out.print(line)

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._show_ended()
            self._show_stop()
            self._show_progress()

    def _show_stop(self) -> None:
        if self._stop_file.is_set and self._stop_file.signal is None:
            self.say_once("stopping, because a run failed (fail_fast=true): the jobs save what they have")

    def _show_ended(self) -> None:
        for run in self.runs:
            try:
                state, status = run.read_state(), run.status
                attempts = status.attempts
                if attempts <= self._attempts[run.path]:
                    self._show_analysed(run)
                    continue
                self._to_analyse.pop(run.path, None)
                if state in ("new", "running"):
                    self._ended.discard(run.path)  # it was interrupted, and its launcher started it again
                    continue
                finished = state == "finished"
                what = f"{status.wall_seconds:.0f} s  {key_metrics(run)}" if finished else status.error
            except RunError:  # a damaged file: reported at the end
                continue
            self._attempts[run.path] = attempts
            self._ended.add(run.path)
            self._out.print(f"[{len(self._ended)}/{len(self.runs)}] {run.path.name}  {state}  {what}", markup=False)

    def _show_analysed(self, run: Run) -> None:
        """Print that a run which lacked only analyses has them now."""
        if run.path in self._to_analyse and not self._to_analyse[run.path].lacks:
            del self._to_analyse[run.path]
            self._ended.add(run.path)
            self._out.print(f"[{len(self._ended)}/{len(self.runs)}] {run.path.name}  analysed", markup=False)

    def _show_progress(self) -> None:
        left = [run for run in self.runs if run.path not in self._ended]
        running = [status for run in left if (status := run.record.read_last()).state == "running"]
        analysed = sum(p.run.is_locked for p in self._to_analyse.values())
        shares = ", ".join(f"{status.progress:.0%}" for status in running)
        parts = [f"{len(running)} running{f' ({shares})' if shares else ''}"] if running or not analysed else []
        parts += [f"{analysed} being analysed"] if analysed else []
        text = f"{', '.join(parts)}, {len(left) - len(running) - analysed} waiting{self._eta()}"
        now = time.monotonic()
        if self._out.is_terminal:
            self._line.update(text)
        elif now - self._shown_at >= _PLAIN_SECONDS:
            self._out.print(text, markup=False)
            self._shown_at = now

    def _share_done(self) -> float:
        """Work done, in units of one run. One that is only analysed counts once it has ended."""
        begun = [run for run in self.runs if run.path not in self._ended and run.path not in self._to_analyse]
        return len(self._ended) + sum(run.record.read_last().progress for run in begun)

    def _eta(self) -> str:
        done = self._share_done()
        gained, seconds = done - self._share_at_start, time.monotonic() - self._started
        if gained <= 0:
            return ""
        left = round((len(self.runs) - done) / gained * seconds)
        return f", about {left // 60} min {left % 60:02d} s to go" if left >= 60 else f", about {left} s to go"
