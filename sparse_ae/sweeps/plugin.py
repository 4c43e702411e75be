"""Hydra's own launchers (Slurm, Ray, basic): jobs as overrides, composed again where they run.

A pack is one job for them: its first run is composed, the others come with it.
"""

import copy
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.atomic import write_atomically
from sparse_ae.cli.compose import hydra_context
from sparse_ae.cli.overrides import written
from sparse_ae.config.errors import ConfigError
from sparse_ae.reporting.console import tell
from sparse_ae.run.directory import Run
from sparse_ae.sweeps.packs import described, pack_size, packs
from sparse_ae.sweeps.plan import Planned, job_spec
from sparse_ae.sweeps.process import JobSpec, run_isolated

_PREEMPTION_SECONDS = 120
"""Slurm requeues a pre-empted job only if it is still alive when Slurm kills it, so a stopped job waits this long."""


def plugin_launcher(kind: str, config: DictConfig, stop_file: Path) -> Callable[[Sequence[Planned]], None]:
    """A function that executes jobs of ``kind`` with the launcher plugin that ``config`` names, and waits.

    Raises ``ConfigError`` if there is no such launcher or it refuses its options.
    """
    size = _pack_size(config)
    task = functools.partial(_task, kind, os.getpid(), size > 1)
    plain = copy.deepcopy(config)
    if plain.hydra.launcher is not None:
        with read_write(plain.hydra), open_dict(plain.hydra.launcher):
            plain.hydra.launcher.pop("pack", None)
    try:
        launcher = Plugins.instance().instantiate_launcher(
            config=plain, hydra_context=hydra_context(plain), task_function=task
        )
    except (HydraException, OmegaConfBaseException, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError("hydra.launcher", reason=str(error.__cause__ or error).splitlines()[0]) from error

    def launch(jobs: Sequence[Planned]) -> None:
        firsts = list(jobs)
        if size > 1:
            divided = packs([_spec(job, config, stop_file) for job in jobs], lambda job: size, at_a_time=1)
            if told := described(divided):
                tell(told)
            _write_packs(divided)
            folders = {pack[0].folder for pack in divided}
            firsts = [job for job in jobs if job.run.path.absolute() in folders]
        launcher.launch([job_overrides(job, config, stop_file) for job in firsts], initial_job_idx=0)

    return launch


def _pack_size(config: DictConfig) -> int:
    """Largest number of runs of one job. Raises ``ConfigError`` for ``auto``: the machines are not known here."""
    size = pack_size(OmegaConf.select(config, "hydra.launcher.pack", default="off"))
    if size == "auto":
        reason = "a cluster's machines are not known, and it has room for all runs at once"
        raise ConfigError("hydra.launcher.pack", size, reason, "off or a number")
    return 1 if size == "off" else size


def _spec(job: Planned, config: DictConfig, stop_file: Path) -> JobSpec:
    """The job as ``job_overrides`` describe it, composed."""
    threads = _threads(config)
    options = job.spec.config if threads is None else {**job.spec.config, "threads": threads}
    return job.spec._replace(config=options, folder=job.run.path.absolute(), stop_file=stop_file)


def _pack_file(first: Path) -> Path:
    """File with the other jobs of a pack, in the folder of its first: a job may begin when its sweep has ended."""
    return first / ".pack.json"


def _write_packs(divided: Sequence[Sequence[JobSpec]]) -> None:
    for first, *rest in divided:
        others = [{"config": o.config, "folder": str(o.folder), "sources": o.sources} for o in rest]
        first.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(_pack_file(first.folder), json.dumps(others).encode())


def _others(first: JobSpec) -> list[JobSpec]:
    """The other jobs of a pack."""
    packed = json.loads(_pack_file(first.folder).read_bytes())
    return [first._replace(config=o["config"], folder=Path(o["folder"]), sources=o["sources"]) for o in packed]


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


def _task(kind: str, sweep_pid: int, is_packed: bool, config: DictConfig) -> None:
    """Execute one job, and the others of its pack, where a launcher has put it, on this machine or on another."""
    if os.getpid() != sweep_pid:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep says when to stop
    with open_dict(config):
        config.hydra = HydraConfig.get()
    first = job_spec(kind, config)
    pack = [first, *(_others(first) if is_packed else ())]
    run_isolated(pack)
    is_queued = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"  # and not a launcher of ours in a shell from Slurm
    if is_queued and any(Run(spec.folder).read_state() == "interrupted" and not spec.is_to_stop for spec in pack):
        time.sleep(_PREEMPTION_SECONDS)
