"""A sweep from its command to its exit code: plan, skip, launch, wait for what others train, say what failed."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.sparse_ae_sweeper import JoblibLauncher
from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import describe, one_line_errors, program_of, quoted
from sparse_ae.config.build import check_arguments
from sparse_ae.config.errors import ConfigError
from sparse_ae.runs.directory import Run
from sparse_ae.sweep.console import Watch
from sparse_ae.sweep.plan import Planned, job_of, list_jobs, plan
from sparse_ae.sweep.process import run_isolated, warm_up
from sparse_ae.sweep.stop import StopFile, StopWaitingError
from sparse_ae.sweep.tell import announce, summarize

_PREEMPTION_SECONDS = 120
"""Slurm sends SIGTERM to a job that it takes the machine from, and puts back into the queue only what is still there
when it ends it: so long a job that has saved and stopped waits for that."""


def sweep(context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> None:
    """Train every run of the sweep that is not finished. Exits with 0 only if all of them are in the end, with 130 or
    143 if asked to stop, else with 1.
    """
    with one_line_errors(program_of(config.hydra.job.config_name)):
        if _waits_here(config):
            warm_up()
        planned, rejected = plan(context, config, list_jobs(context, config, arguments))
        HydraConfig.instance().set_config(config)
        if not planned:
            raise ConfigError(rejected[0].why)
        launcher = _make_launcher(context, config)
        folders = _folders(planned, Path(config.hydra.sweep.dir))
        make_writable(folders[0])
        with StopFile(folders[0]) as stop:
            todo = [p for p in planned if not p.is_settled]
            announce(planned, rejected, todo, folders)
            trouble = _train(launcher, config, todo, stop) if todo else None
            summarize(planned, rejected, folders, program_of(config.hydra.job.config_name), trouble)
            if stop.signal is not None:
                raise SystemExit(128 + stop.signal)
        if rejected or not all(p.is_done for p in planned):
            raise SystemExit(1)


def _waits_here(config: DictConfig) -> bool:
    """Whether the jobs are processes of this one, which ends them; else they may be anywhere, or in a queue."""
    return bool(config.hydra.launcher._target_.endswith((".JoblibLauncher", ".BasicLauncher")))


def _make_launcher(context: HydraContext, config: DictConfig) -> Launcher:
    """The launcher that the config describes. Raises ``ConfigError`` if it describes none."""
    spec = {key: value for key, value in config.hydra.launcher.items() if key != "_target_"}
    if config.hydra.launcher._target_.endswith(".JoblibLauncher"):
        check_arguments(JoblibLauncher, spec, "hydra.launcher")
    try:
        return Plugins.instance().instantiate_launcher(config=config, hydra_context=context, task_function=task)
    except Exception as error:  # whatever a plugin objects to
        raise ConfigError(f"hydra.launcher: {describe(error.__cause__ or error)}") from error


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


def _train(launcher: Launcher, config: DictConfig, todo: Sequence[Planned], stop: StopFile) -> str | None:
    """Launch what is to be done, then what another process was at and did not finish. Returns what went wrong with the
    launcher itself.
    """
    trouble = None
    with Watch([p.run for p in todo]) as watch:
        elsewhere = [p for p in todo if p.is_elsewhere]
        mine = [p for p in todo if p not in elsewhere]
        told = False
        while (mine or elsewhere) and stop.signal is None:
            if mine:
                trouble = _launch(launcher, config, mine, stop) or trouble
                elsewhere += [p for p in mine if p.is_elsewhere]
            elif not told:
                watch.say(f"waiting for {len(elsewhere)} that another process is training")
                told = True
            time.sleep(1.0 if elsewhere else 0.0)
            # Whoever was at it has ended: if the run has not, it is ours.
            mine = [p for p in elsewhere if not p.is_elsewhere and p.state in ("interrupted", "new")]
            elsewhere = [p for p in elsewhere if p.is_elsewhere]
    return trouble


def _launch(launcher: Launcher, config: DictConfig, jobs: Sequence[Planned], stop: StopFile) -> str | None:
    """Train ``jobs``, each with overrides that the sweep adds: the folder it was planned for, as an absolute path, for
    it may run anywhere, and as many threads as a scheduler gives it cores. Returns how the launcher failed, if it did.
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
        threads = [f"threads={int(cpus)}"] if cpus and config.threads is None else []
        batch.append([*job.overrides, *threads, *(f"{key}={quoted(str(path))}" for key, path in added.items())])
    stop.breaks_off = not _waits_here(config)
    try:
        launcher.launch(batch, initial_job_idx=0)
    except StopWaitingError:
        while any(job.is_elsewhere for job in jobs):  # those that have begun
            time.sleep(0.5)
    except Exception as error:  # a launcher that lost a job: what became of each is in its status
        return None if stop.signal else f"the launcher failed: {describe(error)}"
    finally:
        stop.breaks_off = False
    return None
