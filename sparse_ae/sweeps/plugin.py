"""Hydra's own launchers (Slurm, Ray, basic): jobs as overrides, composed again where they run."""

import functools
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.cli.compose import hydra_context
from sparse_ae.cli.overrides import written
from sparse_ae.config.errors import ConfigError
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.plan import Planned, job_spec
from sparse_ae.sweeps.process import run_isolated, warm_up

_PREEMPTION_SECONDS = 120
"""Slurm requeues a pre-empted job only if it is still alive when Slurm kills it, so a stopped job waits this long."""


def plugin_launcher(kind: str, config: DictConfig, stop_file: Path) -> Callable[[Sequence[Planned]], None]:
    """A function that executes jobs of ``kind`` with the launcher plugin that ``config`` names, and waits.

    Raises ``ConfigError`` if there is no such launcher or it refuses its options.
    """
    task = functools.partial(_task, kind, os.getpid())
    try:
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context(config), task_function=task
        )
    except (HydraException, OmegaConfBaseException, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError("hydra.launcher", reason=str(error.__cause__ or error).splitlines()[0]) from error

    def launch(jobs: Sequence[Planned]) -> None:
        launcher.launch([job_overrides(job, config, stop_file) for job in jobs], initial_job_idx=0)

    return launch


def job_overrides(job: Planned, config: DictConfig, stop_file: Path) -> list[str]:
    """The job's overrides, with those that the sweep adds.

    The job may run anywhere, so it is told the folder it was planned for as an absolute path. Where a scheduler gives
    it cores, it has as many threads.
    """
    launcher = config.hydra.launcher
    cpus = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    threads = [f"threads={int(cpus)}"] if cpus and config.threads is None else []
    folder = job.run.path.absolute()
    added = {
        "hydra.sweeper.stop_file": stop_file,
        "hydra.sweep.dir": folder.parent,
        "hydra.sweep.subdir": folder.name,
    }
    return [*job.overrides, *threads, *written(added)]


def _task(kind: str, sweep_pid: int, config: DictConfig) -> None:
    """Execute one job where a launcher has put it, on this machine or on another."""
    if os.getpid() != sweep_pid:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep says when to stop
    with open_dict(config):
        config.hydra = HydraConfig.get()
    spec = job_spec(kind, config)
    warm_up()
    run_isolated([spec])
    is_queued = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"  # and not a launcher of ours in a shell from Slurm
    if is_queued and Run(spec.folder).read_state() == "interrupted" and not spec.is_to_stop:
        time.sleep(_PREEMPTION_SECONDS)
