"""Plan of a sweep: the jobs of its axes, composed, checked and built, and the overrides that make no valid job."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from sparse_ae.cli.compose import explained, sources, task_config
from sparse_ae.cli.overrides import axes
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.jobs.base import missing_analyses
from sparse_ae.jobs.execute import is_settled, starting_point
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError
from sparse_ae.runs.naming import config_hash
from sparse_ae.sweep.process import JobSpec

IsGroup = Callable[[str], bool]


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
    def is_settled(self) -> bool:
        """True if there is nothing to train."""
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
            _check(new, twin)
        except (ConfigError, RunError) as error:
            rejected.append(Rejected(own, error))
        else:
            if twin is None:
                planned[spec.folder] = new
            else:
                twin.same.append(own)
    return list(planned.values()), rejected


def _check(new: Planned, twin: Planned | None) -> None:
    """Raise ``ConfigError`` or ``RunError`` for a job that cannot be trained, or not in the folder of ``twin``."""
    job = new.spec.build()
    if job.devices > 1:
        devices = new.spec.config["trainer"]["devices"]
        raise ConfigError("trainer.devices", devices, "a sweep trains each run on one device", "1")
    if twin is not None and config_hash(twin.spec.config) != config_hash(new.spec.config):
        reason = f"{new.run.path} is also the folder of {' '.join(twin.overrides)}"
        raise ConfigError("hydra.sweep.subdir", reason=reason)
    if new.state != "damaged" and not is_settled(new.run, new.spec.config):
        starting_point(job)
        job.inspect()


def compose_job(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The config that ``overrides`` make of a sweep's ``config``. Raises ``ConfigError`` if they make none."""
    with explained(config.hydra.job.config_name, [*config.hydra.overrides.hydra, *overrides]):
        composed = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
        HydraConfig.instance().set_config(composed)  # what ${hydra:...} in a folder's name refers to
    return composed


def job_spec(kind: str, config: DictConfig) -> JobSpec:
    """The job that a composed config describes, in the folder that it names."""
    folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    stop_file = config.hydra.sweeper.stop_file
    return JobSpec(kind, task_config(config), folder, sources(config), stop_file and Path(stop_file))


def list_jobs(config: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every job: the axes of the sweeper's config and of ``arguments``.

    Of several experiments asked for, each brings its own axes.
    """
    experiments = axes(arguments).get("experiment", [])
    if len(experiments) < 2:
        return expand(config.hydra.sweeper.params, config.hydra.sweeper.grids, arguments, _is_group)
    others = [argument for argument in arguments if not argument.startswith("experiment=")]
    return list(itertools.chain.from_iterable(_jobs_of(config, experiment, others) for experiment in experiments))


def _jobs_of(config: DictConfig, experiment: str, others: Sequence[str]) -> list[list[str]]:
    own = compose_job(config, [experiment]).hydra
    if own.launcher != config.hydra.launcher:
        raise ConfigError(experiment, reason="sets hydra.launcher; of several experiments none may")
    return expand(own.sweeper.params, own.sweeper.grids, [experiment, *others], _is_group)


def _is_group(key: str) -> bool:
    return bool(GlobalHydra.instance().config_loader().get_group_options(key))


def expand(
    params: Mapping[str, Any], grids: Sequence[Mapping[str, Any]], arguments: Sequence[str], is_group: IsGroup
) -> list[list[str]]:
    """Every combination of ``params`` and ``arguments``, for each of ``grids``, in the order given, none twice.

    An argument replaces the axis of its key wherever there is one. A grid that fixes a config group to an option that
    the arguments exclude is dropped (``sparsity: kl``, where ``sparsity=l1`` is asked for), unless all would be.
    Raises ``ConfigError`` for overrides that do not parse or are no list of values.
    """
    asked = axes(arguments)
    kept = [grid for grid in grids if not _contradicts(axes(_overrides(grid)), asked, is_group)]
    jobs: Iterator[tuple[str, ...]] = itertools.chain.from_iterable(
        itertools.product(*{**axes(_overrides(params)), **axes(_overrides(grid)), **asked}.values())
        for grid in kept or grids or [{}]
    )
    return [list(job) for job in dict.fromkeys(jobs)]


def _overrides(values: Mapping[str, Any]) -> list[str]:
    """A list is an axis, as text with commas is."""
    return [f"{key}={','.join(map(str, v)) if OmegaConf.is_list(v) else v}" for key, v in values.items()]


def _contradicts(grid: Mapping[str, list[str]], asked: Mapping[str, list[str]], is_group: IsGroup) -> bool:
    return any(is_group(key) and not set(values) & set(asked[key]) for key, values in grid.items() if key in asked)
