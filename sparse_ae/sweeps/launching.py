"""Execution of jobs by any launcher: ours or a plugin, with requests to stop, and what other processes have locked."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from sparse_ae.config.build import build
from sparse_ae.config.errors import describe
from sparse_ae.sweeps.console import Watch
from sparse_ae.sweeps.local import LocalLauncher
from sparse_ae.sweeps.plan import Planned
from sparse_ae.sweeps.plugin import plugin_launcher
from sparse_ae.sweeps.process import StopFile, StopWaitingError
from sparse_ae.sweeps.server import is_local, waits_here

_FAILED_FAST = "not started, because another run failed before (fail_fast=true)"


class Launcher(NamedTuple):
    """Executor of jobs."""

    launch: Callable[[Sequence[Planned]], None]
    """Execute jobs and wait for their end."""
    waits_here: bool
    """True if the jobs are processes of this one, which ends them; else they may be anywhere, or in a queue."""
    at_a_time: Callable[[int, Mapping[str, Any]], int] | None = None
    """Number, of as many jobs with such a config, that it executes at a time; None where it cannot tell."""


def _plain(node: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def make_launcher(job: str, config: DictConfig, stop_file: Path) -> Launcher:
    """The launcher that ``config`` describes. Raises ``ConfigError`` if it describes none."""
    if not is_local(config):
        return Launcher(plugin_launcher(job, config, stop_file), waits_here(config))
    local: LocalLauncher = build(_plain(config.hydra.launcher), "hydra.launcher")

    def launch(jobs: Sequence[Planned]) -> None:
        local.launch([p.spec._replace(folder=p.run.path.absolute(), stop_file=stop_file) for p in jobs])

    def count(jobs: int, config: Mapping[str, Any]) -> int:
        return min(jobs, local.divide(jobs, config).jobs * (local.pack if isinstance(local.pack, int) else 1))

    return Launcher(launch, waits_here=True, at_a_time=count)


def train(launcher: Launcher, todo: Sequence[Planned], stop: StopFile) -> str | None:
    """Launch ``todo``, then what other processes had locked and did not finish.

    Returns the error of the launcher itself, if it failed.
    """
    trouble = None
    elsewhere = [p for p in todo if p.is_elsewhere]
    mine = [p for p in todo if p not in elsewhere]
    with Watch(todo, stop) as watch:
        while (mine or elsewhere) and not stop.is_set:
            if mine:
                trouble = _launch(launcher, mine, stop) or trouble
                elsewhere += [p for p in mine if p.is_elsewhere]
            else:
                watch.say_once(f"waiting for {len(elsewhere)} that another process has locked")
            time.sleep(1.0 if elsewhere else 0.0)
            mine, elsewhere = _released(elsewhere)
    return _FAILED_FAST if stop.is_set and stop.signal is None else trouble


def _released(elsewhere: Sequence[Planned]) -> tuple[list[Planned], list[Planned]]:
    """The runs that other processes have left unfinished, and those that they still have locked."""
    locked = [p for p in elsewhere if p.is_elsewhere]
    left = [p for p in elsewhere if p not in locked and (p.state in ("interrupted", "new") or p.lacks_analyses_only)]
    return left, locked


def _launch(launcher: Launcher, jobs: Sequence[Planned], stop: StopFile) -> str | None:
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
