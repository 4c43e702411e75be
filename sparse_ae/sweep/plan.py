"""From the overrides of a sweep's jobs to their configs and folders, and what is wrong with those that have none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.build import ConfigError
from sparse_ae.cli import explain, sources, task_config
from sparse_ae.experiment import assemble
from sparse_ae.identity import config_hash
from sparse_ae.runs import Run, RunError
from sparse_ae.sweep.grid import axes, expand
from sparse_ae.sweep.isolate import Job


class Planned(NamedTuple):
    """One run of a sweep."""

    overrides: list[str]
    run: Run
    rerun: str
    """The config's own ``rerun``."""
    hash: str
    """The config's hash."""

    @property
    def state(self) -> str:
        """The run's state, or ``damaged`` where that cannot be read."""
        try:
            return self.run.state
        except RunError:
            return "damaged"

    @property
    def is_done(self) -> bool:
        """Whether it came to its end."""
        return self.state == "finished"

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to train."""
        left_alone = ("finished", "damaged", *(["failed"] if self.rerun == "none" else []))
        return self.rerun != "all" and self.state in left_alone

    @property
    def is_elsewhere(self) -> bool:
        """Whether another process is at it, even if its status does not say so yet."""
        return self.run.is_locked


class Rejected(NamedTuple):
    """Overrides that make no valid config."""

    overrides: list[str]
    """Those that tell this job from the others."""
    why: str


def list_jobs(context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every job: the axes of the sweeper's config and of ``arguments``. Of several experiments asked
    for, each brings its own axes.
    """

    def is_group(key: str) -> bool:
        return bool(context.config_loader.get_group_options(key))

    experiments = axes(arguments).get("experiment", [])
    if len(experiments) < 2:
        return expand(config.hydra.sweeper.params, config.hydra.sweeper.grids, arguments, is_group)
    jobs = []
    others = [argument for argument in arguments if not argument.startswith("experiment=")]
    for experiment in experiments:
        with _explained([experiment], config):
            sweeper = context.config_loader.load_sweep_config(config, [experiment]).hydra.sweeper
            jobs += expand(sweeper.params, sweeper.grids, [experiment, *others], is_group)
    return jobs


def plan(context: HydraContext, config: DictConfig, jobs: Sequence[list[str]]) -> tuple[list[Planned], list[Rejected]]:
    """Compose and check every job; two that mean the same run are one. Writes nothing."""
    planned: dict[Path, Planned] = {}
    rejected = []
    common = set(jobs[0]).intersection(*jobs)
    for overrides in jobs:
        try:
            job = compose_job(context, config, overrides)
            new = Planned(overrides, Run(job.folder), job.config["rerun"], config_hash(job.config))
            _check(job, new, planned.get(job.folder))
        except (ConfigError, RunError) as error:
            own = [override for override in overrides if override not in common]
            rejected.append(Rejected(own or overrides, str(error)))
        else:
            planned.setdefault(job.folder, new)
    return list(planned.values()), rejected


def _check(job: Job, new: Planned, same_folder: Planned | None) -> None:
    """Raise ``ConfigError`` or ``RunError`` for what cannot be trained, or not there."""
    trainer = assemble(job.config, Run("")).trainer
    if trainer.world_size > 1:
        devices = job.config["trainer"]["devices"]
        raise ConfigError(f"trainer.devices={devices}: a sweep trains each run on one device (allowed: 1)")
    if same_folder is not None and same_folder.hash != new.hash:
        raise ConfigError(f"hydra.sweep.subdir: {job.folder} is also the folder of {' '.join(same_folder.overrides)}")
    if new.state not in ("new", "damaged") and new.rerun != "all" and new.run.status.get("config_hash") != new.hash:
        raise RunError(f"{job.folder}: holds another run (allowed: another hydra.sweep.dir, or rerun=all)")


def compose_job(context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> Job:
    """The job that ``overrides`` make of a sweep's ``config``. Raises ``ConfigError``, one line, if they make none."""
    with _explained(overrides, config):
        composed = context.config_loader.load_sweep_config(config, list(overrides))
        HydraConfig.instance().set_config(composed)  # what ${hydra:...} in a folder's name refers to
        return job_of(composed, Path(composed.hydra.sweep.dir) / composed.hydra.sweep.subdir)


@contextmanager
def _explained(overrides: Sequence[str], config: DictConfig) -> Iterator[None]:
    """What Hydra says of ``overrides`` on top of ``config``, as one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides, config)) from error


def job_of(config: DictConfig, folder: Path) -> Job:
    """The job that Hydra's current configuration describes."""
    named = HydraConfig.get().sweeper.get("stop_file")
    return Job(task_config(config), folder, sources(config), None if named is None else Path(named))
