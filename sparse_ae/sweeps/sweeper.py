"""A sweep from its command to its outcome: plan, skip, launch, wait for other processes, report failures."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import folder
from sparse_ae.cli.overrides import of_runs
from sparse_ae.config.build import TARGET, build
from sparse_ae.config.errors import ConfigError, Mistakes, describe
from sparse_ae.lock import lacks_locks
from sparse_ae.reporting.console import warn
from sparse_ae.sweeps.console import Watch, announce, summarize
from sparse_ae.sweeps.grid import list_jobs
from sparse_ae.sweeps.local import LocalLauncher
from sparse_ae.sweeps.plan import Planned, Rejected, plan
from sparse_ae.sweeps.plugin import plugin_launcher
from sparse_ae.sweeps.process import StopFile, StopWaitingError, warm_up

_FAILED_FAST = "not started, because another run failed before (fail_fast=true)"


class _Launcher(NamedTuple):
    """Executor of jobs."""

    launch: Callable[[Sequence[Planned]], None]
    """Execute jobs and wait for their end."""
    waits_here: bool
    """True if the jobs are processes of this one, which ends them; else they may be anywhere, or in a queue."""


class Outcome(NamedTuple):
    """End of a sweep."""

    planned: list[Planned]
    """Its runs, finished or not."""
    rejected: list[Rejected]
    """Overrides that made no valid run."""
    signal: int | None
    """Signal by which it was asked to stop, if it was."""

    @property
    def unfinished(self) -> list[Planned]:
        """Runs that lack results."""
        return [p for p in self.planned if not p.is_done]

    @property
    def exit_code(self) -> int:
        """0 only if everything is finished, 128 + signal if asked to stop, else 1."""
        if self.signal is not None:
            return 128 + self.signal
        return int(bool(self.rejected or self.unfinished))


def sweep(name: str, job: str, config: DictConfig, overrides: Sequence[str]) -> Outcome:
    """Execute every ``job`` of the sweep that is not finished; ``config`` is that of ``conf/<name>.yaml``."""
    _check_hydra(config)
    if _waits_here(config):
        warm_up()
    planned, rejected = plan(job, config, list_jobs(config, of_runs(overrides)))
    if not planned or (rejected and config.fail_fast):
        _raise(rejected)
    folders = _folders(planned, folder(config, "hydra.sweep.dir"))
    stop = StopFile(folders[0])
    launcher = _make_launcher(job, config, stop.path)
    make_writable(folders[0])
    if warning := lacks_locks(folders[0]):
        warn(warning)
    with stop:
        todo = [p for p in planned if not p.is_settled]
        again = [text for text in overrides if not text.startswith(("rerun=", "hydra.mode="))]
        announce(planned, rejected, todo, folders)
        trouble = _train(launcher, todo, stop) if todo else None
        summarize(planned, rejected, folders, [f"sparse-ae-{name}", "-m", *again], trouble)
    return Outcome(planned, rejected, stop.signal)


def _check_hydra(config: DictConfig) -> None:
    """Raise ``ConfigError`` for settings of Hydra that do nothing in a sweep's jobs, which log into their folders."""
    mistakes = Mistakes()
    usual = {"job.chdir": "false", "verbose": "false", "output_subdir": "null", "callbacks": "{}"}
    for key, expected in usual.items():
        if value := OmegaConf.select(config.hydra, key):
            mistakes.add(ConfigError(f"hydra.{key}", value, "has no effect on the jobs of a sweep", expected))
    logging = config.hydra.runtime.choices.get("hydra/job_logging")
    if logging != "none":
        mistakes.add(ConfigError("hydra/job_logging", logging, "each job of a sweep logs into its own folder", "none"))
    mistakes.check()


def _raise(rejected: Sequence[Rejected]) -> None:
    """Raise the mistakes of all jobs, each once."""
    mistakes = Mistakes()
    for job in rejected:
        if not isinstance(job.error, ConfigError):
            raise job.error
        mistakes.add(*job.error.errors)
    mistakes.check()


def _waits_here(config: DictConfig) -> bool:
    """True if the jobs will be processes of this one; else they may be anywhere, or in a queue."""
    return _is_local(config) or config.hydra.runtime.choices.get("hydra/launcher") == "basic"


def _is_local(config: DictConfig) -> bool:
    """True if the launcher is ours and not a plugin."""
    target = OmegaConf.select(config, f"hydra.launcher.{TARGET}")
    return bool(target == f"{LocalLauncher.__module__}.{LocalLauncher.__name__}")


def _plain(node: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _make_launcher(job: str, config: DictConfig, stop_file: Path) -> _Launcher:
    """The launcher that ``config`` describes. Raises ``ConfigError`` if it describes none."""
    if not _is_local(config):
        return _Launcher(plugin_launcher(job, config, stop_file), _waits_here(config))
    local: LocalLauncher = build(_plain(config.hydra.launcher), "hydra.launcher")

    def launch(jobs: Sequence[Planned]) -> None:
        local.launch([p.spec._replace(folder=p.run.path.absolute(), stop_file=stop_file) for p in jobs])

    return _Launcher(launch, waits_here=True)


def _folders(planned: Sequence[Planned], usual: Path) -> list[Path]:
    """Folders of the runs: the sweep's ``usual`` one, unless there are several experiments."""
    parents = list(dict.fromkeys(p.run.path.parent for p in planned))
    return [usual] if all(parent.is_relative_to(usual) for parent in parents) else parents


def _train(launcher: _Launcher, todo: Sequence[Planned], stop: StopFile) -> str | None:
    """Launch ``todo``, then what other processes had locked and did not finish.

    Returns the error of the launcher itself, if it failed.
    """
    trouble = None
    elsewhere = [p for p in todo if p.is_elsewhere]
    mine = [p for p in todo if p not in elsewhere]
    with Watch([p.run for p in todo], stop) as watch:
        while (mine or elsewhere) and not stop.is_set:
            if mine:
                trouble = _launch(launcher, mine, stop) or trouble
                elsewhere += [p for p in mine if p.is_elsewhere]
            else:
                watch.say_once(f"waiting for {len(elsewhere)} that another process is training")
            time.sleep(1.0 if elsewhere else 0.0)
            mine, elsewhere = _released(elsewhere)
    return _FAILED_FAST if stop.is_set and stop.signal is None else trouble


def _released(elsewhere: Sequence[Planned]) -> tuple[list[Planned], list[Planned]]:
    """The runs that other processes have left unfinished, and those that they still have locked."""
    locked = [p for p in elsewhere if p.is_elsewhere]
    left = [p for p in elsewhere if p not in locked and p.state in ("interrupted", "new")]
    return left, locked


def _launch(launcher: _Launcher, jobs: Sequence[Planned], stop: StopFile) -> str | None:
    """Execute ``jobs``. Returns the error of the launcher itself, if it failed."""
    stop.breaks_off = not launcher.waits_here
    try:
        launcher.launch(jobs)
    except StopWaitingError:
        while any(job.is_elsewhere for job in jobs):  # those that have begun
            time.sleep(0.5)
    except Exception as error:  # a plugin that lost a job: what became of each is in its status
        return None if stop.signal else f"the launcher failed: {describe(error)}"
    finally:
        stop.breaks_off = False
    return None
