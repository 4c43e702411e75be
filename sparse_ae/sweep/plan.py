"""From the overrides of a sweep's jobs to their configs and folders, and what is wrong with those that have none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sparse_ae.cli.compose import explain, sources, task_config
from sparse_ae.cli.overrides import axes, expand
from sparse_ae.config.errors import ConfigError
from sparse_ae.jobs import assemble
from sparse_ae.jobs.execute import check_analyses, is_settled, missing_analyses, starting_point
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError
from sparse_ae.runs.naming import config_hash
from sparse_ae.sweep.process import Job


class Planned(NamedTuple):
    """One run of a sweep."""

    overrides: list[str]
    run: Run
    config: dict[str, Any]
    same: list[list[str]]
    """Overrides of further jobs that mean this run."""

    @property
    def state(self) -> str:
        """The run's state, or ``damaged`` where that cannot be read."""
        try:
            return self.run.state
        except RunError:
            return "damaged"

    @property
    def is_done(self) -> bool:
        """Whether it came to its end, its analyses included."""
        return self.state == "finished" and not self.lacks

    @property
    def lacks(self) -> list[str]:
        """The analyses that were asked for and are not there."""
        return list(missing_analyses(self.run, self.config))

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to train."""
        rerun = self.config["rerun"]
        return rerun != "all" and (self.state == "damaged" or is_settled(self.run, self.config, rerun))

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
        with _explained(context, [experiment], config):
            own = context.config_loader.load_sweep_config(config, [experiment]).hydra
            sweeper = own.sweeper
            if own.launcher != config.hydra.launcher:
                raise ConfigError(f"{experiment}: sets hydra.launcher (allowed of several experiments: none does)")
            jobs += expand(sweeper.params, sweeper.grids, [experiment, *others], is_group)
    return jobs


def plan(context: HydraContext, config: DictConfig, jobs: Sequence[list[str]]) -> tuple[list[Planned], list[Rejected]]:
    """Compose and check every job; two that mean the same run are one. Writes nothing."""
    planned: dict[Path, Planned] = {}
    rejected = []
    common = set(jobs[0]).intersection(*jobs)
    for overrides in jobs:
        own = [override for override in overrides if override not in common] or overrides
        try:
            job = compose_job(context, config, overrides)
            twin = planned.get(job.folder)
            new = Planned(own, Run(job.folder), job.config, [])
            _check(new, twin)
        except (ConfigError, RunError) as error:
            rejected.append(Rejected(own, str(error)))
        else:
            if twin is None:
                planned[job.folder] = new._replace(overrides=overrides)
            else:
                twin.same.append(own)
    return list(planned.values()), rejected


def _check(new: Planned, twin: Planned | None) -> None:
    """Raise one of our errors for what cannot be trained, or not there; ``twin`` has the same folder."""
    experiment = assemble(new.config, Run(""))
    if experiment.devices > 1:
        devices = new.config["trainer"]["devices"]
        raise ConfigError(f"trainer.devices={devices}: a sweep trains each run on one device (allowed: 1)")
    if twin is not None and config_hash(twin.config) != config_hash(new.config):
        raise ConfigError(f"hydra.sweep.subdir: {new.run.path} is also the folder of {' '.join(twin.overrides)}")
    if new.state != "damaged" and not is_settled(new.run, new.config, experiment.rerun):
        check_analyses(new.run, new.config)
        starting_point(experiment, new.run)


def compose_job(context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> Job:
    """The job that ``overrides`` make of a sweep's ``config``. Raises ``ConfigError``, one line, if they make none."""
    with _explained(context, overrides, config):
        composed = context.config_loader.load_sweep_config(config, list(overrides))
        HydraConfig.instance().set_config(composed)  # what ${hydra:...} in a folder's name refers to
        return job_of(composed, Path(composed.hydra.sweep.dir) / composed.hydra.sweep.subdir)


@contextmanager
def _explained(context: HydraContext, overrides: Sequence[str], config: DictConfig) -> Iterator[None]:
    """What Hydra says of ``overrides`` on top of ``config``, as one line."""

    def without(kept: list[str]) -> DictConfig:
        return context.config_loader.load_sweep_config(config, kept)

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides, without)) from error


def job_of(config: DictConfig, folder: Path) -> Job:
    """The job that Hydra's current configuration describes."""
    named = HydraConfig.get().sweeper.get("stop_file")
    return Job(task_config(config), folder, sources(config), None if named is None else Path(named))
