"""Search: a sweep whose jobs are chosen from ranges, batch by batch, by what the runs before them have reached."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from omegaconf import DictConfig
from pydantic import NonNegativeInt, PositiveInt

from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import folder
from sparse_ae.cli.options import installation
from sparse_ae.cli.overrides import of_runs
from sparse_ae.config.errors import ConfigError, Mistakes, did_you_mean, listed
from sparse_ae.lock import HeldError, describe_holder, hold, lacks_locks
from sparse_ae.metrics import NAMES
from sparse_ae.reporting.columns import as_number
from sparse_ae.reporting.console import warn
from sparse_ae.reporting.search import Direction, write_search
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunBusyError, RunError
from sparse_ae.run.naming import config_hash
from sparse_ae.sweeps.console import why
from sparse_ae.sweeps.launching import Launcher, make_launcher, train
from sparse_ae.sweeps.options import is_chosen, options_of
from sparse_ae.sweeps.outcome import Outcome
from sparse_ae.sweeps.plan import Planned, Rejected, compose_job, job_spec, plan, raise_mistakes
from sparse_ae.sweeps.process import JobSpec, StopFile
from sparse_ae.sweeps.pruning import Pruning
from sparse_ae.sweeps.ranges import Space, space
from sparse_ae.sweeps.search_console import announce_batch, summarize_search

if TYPE_CHECKING:  # it imports Optuna, which is an extra
    from sparse_ae.sweeps.study import Study

_JOURNAL, _LOCK = "search.journal", ".search.lock"
_TRIES = 4
"""Number of trials of which one should be valid."""


class SearchSweeper(NamedTuple):
    """Options of ``hydra/sweeper=search``: ``n_trials`` runs, chosen from ranges for the best ``metric``."""

    params: Mapping[str, Any] = {}
    """Range of each key: a text as on the command line, ``{seed: "range(1,9)"}``, or a list of values."""
    metric: str | list[str] = "val/fvu"
    """One metric of the validation split, or two for the front of both."""
    direction: Direction | list[Direction] | None = None
    """Direction in which each metric is better; None: less is better."""
    n_trials: PositiveInt = 20
    """Number of trials in all, those of earlier commands included."""
    at_a_time: PositiveInt | None = None
    """Trials that are chosen together; None: as many as the launcher runs at a time."""
    sampler: Literal["tpe", "random", "nsgaii"] = "tpe"
    """Method of choosing: Optuna's ``TPESampler``, ``RandomSampler`` or ``NSGAIISampler``."""
    seed: NonNegativeInt = 0
    """Seed of the sampler."""
    pruner: Literal["median"] | None = None
    """Method of stopping trials early, by their curves: Optuna's ``MedianPruner``; None: no trial is stopped."""
    spared: NonNegativeInt = 2
    """Number of validations that each trial has before it may be pruned."""
    stop_file: str | None = None
    """File by which the sweep asks its jobs to stop; set by the sweep itself."""


class _Settings(NamedTuple):
    """Settings of one search, checked."""

    metric: list[str]
    direction: list[Direction]
    space: Space
    sampler: str
    seed: int
    n_trials: int
    spared: int | None

    def study(self, file: Path | None) -> "Study":
        """The study in ``file``; None for one that is only in memory."""
        from sparse_ae.sweeps.study import Study

        return Study(
            file,
            ranges=self.space.ranges,
            metric=self.metric,
            direction=self.direction,
            sampler=self.sampler,
            seed=self.seed,
            spared=self.spared or 0,
        )

    def identity(self, first: JobSpec) -> dict[str, Any]:
        """Everything that tells this search from others; ``first`` is a trial of it."""
        identity = {
            "metric": self.metric,
            "direction": self.direction,
            "sampler": self.sampler,
            "seed": self.seed,
            "ranges": self.space.ranges,
            "pruning": self.spared,
            "other options": config_hash(first.config),
        }
        as_read: dict[str, Any] = json.loads(json.dumps(identity))
        return as_read


def is_search(config: DictConfig) -> bool:
    """True if a sweep's ``config`` asks for a search."""
    return is_chosen(config, SearchSweeper)


def search(name: str, job: str, config: DictConfig, overrides: Sequence[str]) -> Outcome:
    """Execute trials of ``job`` until there are as many as were asked for; ``config`` is that of ``conf/<name>.yaml``.

    Trials of an earlier process that was killed come first. Raises ``ConfigError`` for mistakes, before anything is
    written, and ``RunError`` for a folder in which another process searches, or that holds another search.
    """
    options, settings = _settings(config, overrides)
    place = folder(config, "hydra.sweep.dir")
    first = _first(job, config, settings, check=not (place / _JOURNAL).exists())
    stop = StopFile(place)
    launcher = make_launcher(job, config, stop.path)
    size = _at_a_time(options, launcher, first)
    make_writable(place)
    if warning := lacks_locks(place):
        warn(warning)
    with _alone(place), stop:
        study = settings.study(place / _JOURNAL)
        _check_same(place, study, settings.identity(first))
        trouble = None
        while not stop.is_set and trouble is None and (trials := _next_batch(study, size, settings.n_trials)):
            trouble = _execute(trials, study, settings, job, config, launcher, stop, place, size)
        found = study.record()
        again = [text for text in overrides if not text.startswith(("rerun=", "hydra.mode="))]
        whole = [trial.run for trial in found.trials if trial.state != "pruned"]
        runs = [Run(place / run) for run in dict.fromkeys(whole) if run is not None]
        summarize_search(found, settings.n_trials, settings.space, place, runs, name, again, trouble)
    failures = [f"trial {trial.number}, {trial.run}: {trial.why}" for trial in found.trials if trial.why]
    if trouble is not None and trouble not in failures:
        failures.append(trouble)
    return Outcome(runs, failures, settings.n_trials, stop.signal)


def _settings(config: DictConfig, overrides: Sequence[str]) -> tuple[SearchSweeper, _Settings]:
    """Options of the search, and its settings. Raises ``ConfigError`` for all mistakes in them at once."""
    if find_spec("optuna") is None:
        reason = f"not installed{installation('hydra/sweeper', 'search')}"
        raise ConfigError("hydra/sweeper", "search", reason)
    options = options_of(config, SearchSweeper)
    metric = [options.metric] if isinstance(options.metric, str) else options.metric
    direction = options.direction or ["minimize" for _ in metric]
    direction = [direction] if isinstance(direction, str) else direction
    mistakes, choices = Mistakes(), Space([], {})
    with mistakes.collect():
        _check_metrics(metric)
        if len(direction) != len(metric):
            reason = f"{len(direction)} for {len(metric)} metrics"
            raise ConfigError(
                "hydra.sweeper.direction", options.direction, reason, "one for each of hydra.sweeper.metric"
            )
    with mistakes.collect():
        choices = space(options.params, of_runs(overrides))
    if options.pruner is not None and len(metric) > 1:
        reason = "trials are compared by one curve"
        mistakes.add(ConfigError("hydra.sweeper.pruner", options.pruner, reason, "null, or one hydra.sweeper.metric"))
    if config.rerun == "all":
        reason = f"a search resumes its study; delete {_JOURNAL} to begin another"
        mistakes.add(ConfigError("rerun", "all", reason, "failed or none"))
    mistakes.check()
    spared = None if options.pruner is None else options.spared
    return options, _Settings(metric, direction, choices, options.sampler, options.seed, options.n_trials, spared)


def _check_metrics(metric: Sequence[str]) -> None:
    key, known = "hydra.sweeper.metric", [f"val/{name}" for name in NAMES]
    if not 1 <= len(metric) <= 2 or len(set(metric)) < len(metric):
        raise ConfigError(key, metric, "not one metric, or two different ones", "such as val/fvu or [val/fvu, val/l0]")
    for name in metric:
        if name.startswith("test/"):
            raise ConfigError(key, name, "the test split is never selected on", listed(known))
        if name not in known:
            raise ConfigError(key, name, f"not a validation metric{did_you_mean(name, known)}", listed(known))


def _first(job: str, config: DictConfig, settings: _Settings, *, check: bool) -> JobSpec:
    """The first trial that can be composed. With ``check``, one of the first can also be trained.

    Raises ``ConfigError`` or ``RunError`` if there is none, and if nothing is validated.
    """
    study, first, mistakes = settings.study(None), None, dict[tuple[str, str], Rejected]()
    for _ in range(_TRIES):
        overrides = settings.space.overrides(study.ask())
        refused = list[Rejected]()
        try:
            spec = job_spec(job, compose_job(config, overrides))
            first = first or spec
            if check:
                _, refused = plan(job, config, [overrides])
        except ConfigError as error:
            refused = [Rejected(overrides, error)]
        if not refused:
            if check or settings.spared is not None:
                _check_validation(spec, is_pruned=settings.spared is not None)
            return first or spec
        for rejected in refused:  # once, whatever the number that was drawn
            mistakes.setdefault((rejected.error.key, rejected.error.reason), rejected)
    raise_mistakes(list(mistakes.values()))
    raise AssertionError


def _check_validation(spec: JobSpec, *, is_pruned: bool) -> None:
    """Raise ``ConfigError`` if a trial has no validation or, where trials are pruned, no curve of it."""
    reason, job = "a search selects on the validation split", spec.build()
    if not job.data.val_size:
        raise ConfigError("data.val_size", 0, reason, "above 0")
    if spec.config.get("trainer", {}).get("limit_val_batches", 1.0) == 0:
        raise ConfigError("trainer.limit_val_batches", 0, reason, "above 0")
    if is_pruned and "trainer" not in spec.config:
        raise ConfigError("hydra.sweeper.pruner", "median", "a fit is validated only at its end", "null")
    if is_pruned and not any(logger.keeps_curves for logger in job.loggers):
        reason = "trials are pruned by their curves, which no logger keeps"
        raise ConfigError("logger", list(spec.config["logger"]), reason, "tensorboard or csv")


def _at_a_time(options: SearchSweeper, launcher: Launcher, first: JobSpec) -> int:
    if options.at_a_time is not None:
        return options.at_a_time
    if launcher.at_a_time is None:
        reason = "only hydra/launcher=local tells how many it runs at a time"
        raise ConfigError("hydra.sweeper.at_a_time", None, reason, "a number of trials")
    return launcher.at_a_time(options.n_trials, first.config)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep other processes from searching in the folder ``place``. Raises ``RunBusyError`` if one does."""
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(place / _LOCK))
        except HeldError:
            reason = f"is being searched by {describe_holder(place / _LOCK)}"
            raise RunBusyError(str(place), reason=reason) from None
        yield


def _check_same(place: Path, study: "Study", identity: Mapping[str, Any]) -> None:
    """Note what the search is. Raises ``RunError`` if ``study`` is of another one."""
    before = study.identity
    if not before:
        study.note_identity(identity)
        return
    differing = [key for key, value in identity.items() if before.get(key) != value]
    if differing:
        reason = f"holds a search with other {', '.join(d.removeprefix('other ') for d in differing)}"
        raise RunError(str(place / _JOURNAL), reason=reason, expected="another hydra.sweep.dir for this one")


def _next_batch(study: "Study", size: int, n_trials: int) -> dict[int, dict[str, Any]]:
    """Parameters by number of the trials to execute: those that were left, and new ones until a batch is full.

    Batches begin at multiples of ``size`` also after a kill, so that a resumed search asks for the same trials.
    """
    while study.asked < n_trials and (not study.running or study.asked % size):
        study.ask()
    return study.running


def _execute(
    trials: Mapping[int, Mapping[str, Any]],
    study: "Study",
    settings: _Settings,
    job: str,
    config: DictConfig,
    launcher: Launcher,
    stop: StopFile,
    place: Path,
    size: int,
) -> str | None:
    """Execute one batch of ``trials``, of ``size`` unless some are left over, and tell the study what they reached.

    A trial that was stopped stays as it is, to be resumed. Returns the reason not to go on, if there is one.
    """
    jobs = [settings.space.overrides(params) for params in trials.values()]
    planned, rejected = plan(job, config, jobs)
    made = dict(zip(trials, _in_order(jobs, planned, rejected), strict=True))
    for number, of_trial in made.items():
        if isinstance(of_trial, Planned):
            study.note_run(number, os.path.relpath(of_trial.run.path, place))
    write_search(place, study.record())
    announce_batch(made, settings.space, trials, settings.n_trials, place)
    todo = [p for p in planned if not p.is_settled]
    pruning = _pruning(study, settings, made, stop, size)
    with pruning or nullcontext():
        trouble = train(launcher, todo, stop) if todo else None
    for number, of_trial in made.items():
        curve = pruning.curves.get(number, []) if pruning else []
        has_failed = not isinstance(of_trial, Planned) or of_trial.state == "failed"
        if pruning and number in pruning.pruned and not has_failed:
            study.tell(number, [], curve=curve, pruned=True)
            continue
        values, reason = _result(of_trial, settings.metric)
        was_stopped = isinstance(of_trial, Planned) and of_trial.state in ("new", "running", "interrupted")
        if not (was_stopped and (stop.is_set or trouble)):
            study.tell(number, values, reason, curve=curve)
    found = study.record()
    write_search(place, found)
    failed = [trial for trial in found.trials if trial.number in trials and trial.state == "failed"]
    if failed and config.fail_fast and trouble is None:
        return f"stopped, because trial {failed[0].number} failed (fail_fast=true)"
    return trouble


def _pruning(
    study: "Study", settings: _Settings, made: Mapping[int, Planned | Rejected], stop: StopFile, size: int
) -> Pruning | None:
    """Pruning of a batch by the batches before it; None if no trial is pruned.

    A trial that has chosen the run of a complete one again has its result already.
    """
    if settings.spared is None:
        return None
    known = {trial.run for trial in study.record().complete}
    chosen = {trial.number: trial.run for trial in study.record().trials}
    runs = {n: p.run for n, p in made.items() if isinstance(p, Planned) and chosen[n] not in known}
    return Pruning(study.judge(min(made) // size * size), runs, settings.metric[0], stop)


def _in_order(
    jobs: Sequence[list[str]], planned: Sequence[Planned], rejected: Sequence[Rejected]
) -> list[Planned | Rejected]:
    """Each of ``jobs`` as it came out of the plan of them all."""
    found = {tuple(overrides): p for p in planned for overrides in (p.overrides, *p.same)}
    others = iter(rejected)
    return [found[tuple(own)] if tuple(own) in found else next(others) for own in jobs]


def _result(trial: Planned | Rejected, metric: Sequence[str]) -> tuple[list[float], str]:
    """The value of each ``metric`` of a trial, none if it failed, and the reason of that or what it lacks."""
    if isinstance(trial, Rejected):
        return [], trial.why
    if trial.state != "finished":
        return [], why(trial)
    try:
        reached = trial.run.metrics
    except RunError as damage:
        return [], str(damage)
    values = [as_number(reached.get(name)) for name in metric]
    unknown = [name for name, value in zip(metric, values, strict=True) if value is None]
    if unknown:
        return [], f"{', '.join(unknown)} is undefined"
    return [value for value in values if value is not None], "" if trial.is_done else why(trial)
