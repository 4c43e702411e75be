"""A sweep from its command to its exit code: plan, skip, launch, wait for what others train, say what failed."""

import logging
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape
from rich.table import Table

from sparse_ae.build import ConfigError
from sparse_ae.cli import describe, one_line_errors, quoted
from sparse_ae.files import make_writable
from sparse_ae.runs import Run, RunError
from sparse_ae.summary import console, key_metrics
from sparse_ae.sweep.grid import with_threads
from sparse_ae.sweep.isolate import run_isolated, warm_up
from sparse_ae.sweep.plan import Planned, Rejected, job_of, list_jobs, plan
from sparse_ae.sweep.watch import Watch

log = logging.getLogger(__name__)

_PREEMPTION_SECONDS = 120
"""Slurm sends SIGTERM to a job that it takes the machine from, and puts back into the queue only what is still there
when it ends it: so long a job that has saved and stopped waits for that."""


def sweep(context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> None:
    """Train every run of the sweep that is not finished. Exits with 0 only if all of them are in the end, with 130 or
    143 if asked to stop, else with 1.
    """
    with one_line_errors("sparse-ae-train"):
        if config.hydra.launcher._target_.endswith((".JoblibLauncher", ".BasicLauncher")):
            warm_up()
        planned, rejected = plan(context, config, list_jobs(context, config, arguments))
        HydraConfig.instance().set_config(config)
        if not planned:
            raise ConfigError(rejected[0].why)
        folders = _folders(planned, Path(config.hydra.sweep.dir))
        make_writable(folders[0])
        with StopFile(folders[0]) as stop:
            todo = [p for p in planned if not p.is_settled]
            _announce(planned, rejected, todo, folders)
            if todo:
                _train(context, config, todo, stop)
            _summarize(planned, rejected, folders)
            if stop.signal is not None:
                raise SystemExit(128 + stop.signal)
        if rejected or not all(p.is_done for p in planned):
            raise SystemExit(1)


def _folders(planned: Sequence[Planned], usual: Path) -> list[Path]:
    """Where the runs are: in the sweep's ``usual`` folder, unless there are several experiments."""
    parents = list(dict.fromkeys(p.run.path.parent for p in planned))
    return [usual] if all(parent.is_relative_to(usual) for parent in parents) else parents


def task(config: DictConfig) -> None:
    """What Hydra's own launchers run for each job, here or on another machine."""
    if HydraConfig.get().launcher._target_.rpartition(".")[2] != "BasicLauncher":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process of the launcher's: the sweep says when to stop
    job = job_of(config, Path(HydraConfig.get().runtime.output_dir))
    run_isolated(job)
    if "SLURM_JOB_ID" in os.environ and Run(job.folder).state == "interrupted" and not job.is_to_stop:
        time.sleep(_PREEMPTION_SECONDS)


class StopFile:
    """Inside ``with``, Ctrl-C and SIGTERM make a file by which every job, wherever it runs, is asked to stop."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / f".stop-{secrets.token_hex(4)}"
        self.signal: int | None = None

    def __enter__(self) -> "StopFile":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.path.unlink(missing_ok=True)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:  # asked twice: no more patience
            raise KeyboardInterrupt
        self.signal = number
        self.path.touch()
        print("\nstopping: the jobs save what they have; the same command goes on", file=sys.stderr, flush=True)


def _announce(
    planned: Sequence[Planned], rejected: Sequence[Rejected], todo: Sequence[Planned], folders: Sequence[Path]
) -> None:
    """How many runs, and a line for each that is not trained."""
    out = console()
    out.print(f"{', '.join(map(str, folders))}: {len(planned)} runs, {len(todo)} to train", markup=False)
    for p in planned:
        if p not in todo:
            what = _results(p) if p.state == "finished" else _why(p)
            out.print(f"skipped  {p.run.path.name}  {p.state} already  {what}", markup=False)
    for r in rejected:
        out.print(f"left out {' '.join(r.overrides)}  {r.why}", markup=False)


def _train(context: HydraContext, config: DictConfig, todo: Sequence[Planned], stop: StopFile) -> None:
    """Launch what is to be done, then what another process was at and did not finish."""
    launcher = Plugins.instance().instantiate_launcher(config=config, hydra_context=context, task_function=task)
    with Watch([p.run for p in todo]) as watch:
        elsewhere = [p for p in todo if p.is_elsewhere]
        mine = [p for p in todo if p not in elsewhere]
        told = False
        while (mine or elsewhere) and stop.signal is None:
            if mine:
                _launch(launcher, config, mine, stop)
                elsewhere += [p for p in mine if p.is_elsewhere]
            elif not told:
                watch.say(f"waiting for {len(elsewhere)} that another process is training")
                told = True
            time.sleep(1.0 if elsewhere else 0.0)
            # Whoever was at it has ended: if the run has not, it is ours.
            mine = [p for p in elsewhere if not p.is_elsewhere and p.state in ("interrupted", "new")]
            elsewhere = [p for p in elsewhere if p.is_elsewhere]


def _launch(launcher: Launcher, config: DictConfig, jobs: Sequence[Planned], stop: StopFile) -> None:
    """Train ``jobs``, each with overrides that the sweep adds: the folder it was planned for, as an absolute path, for
    it may run anywhere, and as many threads as a scheduler gives it cores.
    """
    cpus = OmegaConf.select(config.hydra.launcher, "cpus_per_task")
    cpus = cpus or OmegaConf.select(config.hydra.launcher, "ray.remote.num_cpus")
    batch = []
    for job in jobs:
        folder = job.run.path.absolute()
        added = {
            "hydra.sweeper.stop_file": stop.path,
            "hydra.sweep.dir": folder.parent,
            "hydra.sweep.subdir": folder.name,
        }
        overrides = with_threads(job.overrides, int(cpus)) if cpus else job.overrides
        batch.append([*overrides, *(f"{key}={quoted(str(path))}" for key, path in added.items())])
    try:
        launcher.launch(batch, initial_job_idx=0)
    except ConfigError:
        raise
    except Exception as error:  # a launcher that lost a job: what became of each is in its status
        if stop.signal is None:
            log.warning("the launcher failed: %s", describe(error))


def _summarize(planned: Sequence[Planned], rejected: Sequence[Rejected], folders: Sequence[Path]) -> None:
    """What is not finished, why, and the command that goes on."""
    bad = [p for p in planned if p.state != "finished"]
    out = console()
    out.print(f"{len(planned) - len(bad)} of {len(planned) + len(rejected)} runs are finished", markup=False)
    if bad or rejected:
        table = Table(title="not finished", title_justify="left")
        for column in ("run", "state", "why"):
            table.add_column(column, overflow="fold")
        for p in bad:
            table.add_row(p.run.path.name, p.state, escape(_why(p)))
        for r in rejected:
            table.add_row(escape(" ".join(r.overrides)), "bad override", escape(r.why))
        out.print(table)
    if bad:
        again = [argument for argument in sys.argv[1:] if argument != "rerun=none"]
        out.print(f"retry:    {shlex.join(['sparse-ae-train', *again])}", markup=False)
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


def _why(p: Planned) -> str:
    """Why a run is not finished."""
    try:
        error = p.run.status.get("error")
    except RunError as damage:
        return f"{damage} (allowed: rerun=all to replace it)"
    if p.state == "new":
        return f"did not start; see {p.run.shown_path / p.run.log.name}" if p.run.log.exists() else "did not start"
    return error or "its process died"
