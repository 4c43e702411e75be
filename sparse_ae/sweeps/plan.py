"""Plan of a sweep: the jobs of its axes, composed, checked and built, and the overrides that make no valid job."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from sparse_ae.cli.compose import explained, folder, sources, task_config
from sparse_ae.config.errors import ConfigError, Mistakes, UserError
from sparse_ae.jobs.base import missing_analyses
from sparse_ae.jobs.execute import is_settled, starting_point
from sparse_ae.packing.packable import Packable
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError
from sparse_ae.run.naming import config_hash
from sparse_ae.sweeps.process import JobSpec


class Planned(NamedTuple):
    """One run of a sweep."""

    overrides: list[str]
    """Overrides that make the run."""
    spec: JobSpec
    """Everything that a process needs to execute it."""
    run: Run
    same: list[list[str]]
    """Overrides of duplicates: further jobs that mean this run."""

    @property
    def state(self) -> str:
        """The run's state, or ``damaged`` where that cannot be read."""
        try:
            return self.run.read_state()
        except RunError:
            return "damaged"

    @property
    def is_done(self) -> bool:
        """True if the run is finished and has every analysis that was asked for."""
        return self.state == "finished" and not self.lacks

    @property
    def lacks(self) -> list[str]:
        """Analyses that were asked for and are missing."""
        return list(missing_analyses(self.run, self.spec.config))

    @property
    def lacks_analyses_only(self) -> bool:
        """True if the run is finished, is not to be repeated, and lacks analyses."""
        return self.state == "finished" and self.spec.config["rerun"] != "all" and bool(self.lacks)

    @property
    def is_settled(self) -> bool:
        """True if there is nothing to train or to analyse."""
        is_damaged = self.state == "damaged"
        return self.spec.config["rerun"] != "all" and (is_damaged or is_settled(self.run, self.spec.config))

    @property
    def is_elsewhere(self) -> bool:
        """True if another process has locked the run, even if its status does not say so yet."""
        return self.run.is_locked


class Rejected(NamedTuple):
    """Overrides that make no valid job."""

    overrides: list[str]
    """Overrides that tell this job from the others."""
    error: UserError
    """Mistakes that they make."""

    @property
    def why(self) -> str:
        """Reason, one line."""
        return "; ".join(str(self.error).splitlines())


def plan(kind: str, config: DictConfig, jobs: Sequence[list[str]]) -> tuple[list[Planned], list[Rejected]]:
    """Compose, check and build every job of ``kind``; duplicates become one. Writes nothing."""
    planned: dict[Path, Planned] = {}
    rejected = []
    common = set(jobs[0]).intersection(*jobs)
    for overrides in jobs:
        own = [override for override in overrides if override not in common] or overrides
        try:
            spec = job_spec(kind, compose_job(config, overrides))
            twin = planned.get(spec.folder)
            new = Planned(overrides, spec, Run(spec.folder), [])
            packable = _check(new, twin)
        except (ConfigError, RunError) as error:
            rejected.append(Rejected(own, error))
        else:
            if twin is None:
                planned[spec.folder] = new._replace(spec=spec._replace(packable=packable))
            else:
                twin.same.append(overrides)
    return list(planned.values()), rejected


def _check(new: Planned, twin: Planned | None) -> Packable | None:
    """Return the facts about a job that can train together with others.

    Raises ``ConfigError`` or ``RunError`` for one that cannot be trained, or not in the folder of ``twin``.
    """
    job = new.spec.build()
    if job.devices > 1:
        devices = new.spec.config["trainer"].get("devices", "auto")
        raise ConfigError("trainer.devices", devices, "a sweep trains each run on one device", "1")
    if twin is not None and config_hash(twin.spec.config) != config_hash(new.spec.config):
        reason = f"{new.run.path} is also the folder of {' '.join(twin.overrides)}"
        raise ConfigError("hydra.sweep.subdir", reason=reason)
    if new.state != "damaged" and not is_settled(new.run, new.spec.config):
        starting_point(job)
        job.inspect()
        packable: Packable | None = job.packable
        return packable
    return None


def raise_mistakes(rejected: Sequence[Rejected]) -> None:
    """Raise the mistakes of all jobs, each once."""
    mistakes = Mistakes()
    for job in rejected:
        if not isinstance(job.error, ConfigError):
            raise job.error
        mistakes.add(*job.error.errors)
    mistakes.check()


def compose_job(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The config that ``overrides`` make of a sweep's ``config``. Raises ``ConfigError`` if they make none."""
    of_hydra = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(of_hydra, list)
    with explained(config.hydra.job.config_name, [*map(str, of_hydra), *overrides]):
        composed = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
        HydraConfig.instance().set_config(composed)  # what ${hydra:...} in a folder's name refers to
    return composed


def job_spec(kind: str, config: DictConfig) -> JobSpec:
    """The job that a composed config describes, in the folder that it names."""
    plain = task_config(config)
    place = folder(config, "hydra.sweep.dir") / folder(config, "hydra.sweep.subdir")
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(place.absolute())
    stop_file = config.hydra.sweeper.stop_file
    return JobSpec(kind, plain, place, sources(config), stop_file and Path(stop_file))
