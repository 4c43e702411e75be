"""Hydra's own launchers (Slurm, Ray, basic): jobs as overrides, composed again where they run.

A pack is one job for them: its first run is composed, the others come with it.
"""

import copy
import functools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.cli.compose import hydra_context
from sparse_ae.cli.overrides import written
from sparse_ae.config.errors import ConfigError
from sparse_ae.reporting.console import tell
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.packs import PackSize, described, largest_pack, pack_size, packs
from sparse_ae.sweeps.plan import Planned, job_spec
from sparse_ae.sweeps.process import JobSpec, run_isolated, warm_up

_PREEMPTION_SECONDS = 120
"""Slurm requeues a pre-empted job only if it is still alive when Slurm kills it, so a stopped job waits this long."""


def plugin_launcher(kind: str, config: DictConfig, stop_file: Path) -> Callable[[Sequence[Planned]], None]:
    """A function that executes jobs of ``kind`` with the launcher plugin that ``config`` names, and waits.

    Raises ``ConfigError`` if there is no such launcher or it refuses its options.
    """
    size = pack_size(OmegaConf.select(config, "hydra.launcher.pack", default="off"))
    others: dict[Path, Sequence[JobSpec]] = {}
    task = functools.partial(_task, kind, os.getpid(), others)
    plain = copy.deepcopy(config)
    with read_write(plain.hydra), open_dict(plain.hydra.launcher):
        plain.hydra.launcher.pop("pack", None)
    try:
        launcher = Plugins.instance().instantiate_launcher(
            config=plain, hydra_context=hydra_context(plain), task_function=task
        )
    except (HydraException, OmegaConfBaseException, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError("hydra.launcher", reason=str(error.__cause__ or error).splitlines()[0]) from error

    def launch(jobs: Sequence[Planned]) -> None:
        divided = _packs(jobs, config, stop_file, size)
        if told := described(divided):
            tell(told)
        others.clear()
        others.update((pack[0].folder, pack[1:]) for pack in divided)
        heads = [job for job in jobs if job.spec.folder.absolute() in others]
        launcher.launch([job_overrides(job, config, stop_file) for job in heads], initial_job_idx=0)

    return launch


def _packs(jobs: Sequence[Planned], config: DictConfig, stop_file: Path, size: PackSize) -> list[list[JobSpec]]:
    """Divide ``jobs`` into packs. The memory of a machine that they may run on is not known here."""
    on_gpu = OmegaConf.select(config, "trainer.accelerator") in ("gpu", "cuda")
    threads = _threads(config)
    specs = [
        job.spec._replace(
            folder=job.spec.folder.absolute(),
            stop_file=stop_file,
            config={**job.spec.config, **({} if threads is None else {"threads": threads})},
        )
        for job in jobs
    ]
    return packs(specs, functools.partial(largest_pack, size=size, on_gpu=on_gpu, memory=None), at_a_time=1)


def _threads(config: DictConfig) -> int | None:
    """Threads of a job: as many as the scheduler gives it cores, unless a number was asked for."""
    launcher = config.hydra.launcher
    cpus = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    return int(cpus) if cpus and config.threads is None else None


def job_overrides(job: Planned, config: DictConfig, stop_file: Path) -> list[str]:
    """The job's overrides, with those that the sweep adds.

    The job may run anywhere, so it is told the folder it was planned for as an absolute path.
    """
    number = _threads(config)
    threads = [] if number is None else [f"threads={number}"]
    folder = job.run.path.absolute()
    added = {
        "hydra.sweeper.stop_file": stop_file,
        "hydra.sweep.dir": folder.parent,
        "hydra.sweep.subdir": folder.name,
    }
    return [*job.overrides, *threads, *written(added)]


def _task(kind: str, sweep_pid: int, others: Mapping[Path, Sequence[JobSpec]], config: DictConfig) -> None:
    """Execute one job, and the ``others`` of its pack, where a launcher has put it, on this machine or on another."""
    if os.getpid() != sweep_pid:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep says when to stop
    with open_dict(config):
        config.hydra = HydraConfig.get()
    first = job_spec(kind, config)
    pack = [first, *others.get(first.folder, ())]
    warm_up()
    run_isolated(pack)
    is_queued = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"  # and not a launcher of ours in a shell from Slurm
    if is_queued and any(Run(spec.folder).read_state() == "interrupted" and not spec.is_to_stop for spec in pack):
        time.sleep(_PREEMPTION_SECONDS)
