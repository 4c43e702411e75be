"""Optuna's study of a search, in a file that outlives every kill: trials asked for and told, one process at a time.

Importing this module imports Optuna.
"""

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from sparse_ae.reporting.search import Direction, Search, State, Trial
from sparse_ae.run.errors import RunError
from sparse_ae.sweeps.ranges import Choices, Range

_NAME = "search"
_IDENTITY, _RUN, _WHY = "identity", "run", "why"
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "pruned",
}


class _HeldLock(JournalFileOpenLock):
    """Lock of a journal that only the holder of the search's own lock opens.

    Optuna's would keep the next process waiting after a kill.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Study:
    """Trials of one search: asked for, told, and read again by the next process.

    The trial of a given number is a function of the seed and of the trials told before it, in whatever process it is
    asked for.
    """

    def __init__(
        self,
        file: Path | None,
        *,
        ranges: Mapping[str, Range],
        metric: Sequence[str],
        direction: Sequence[Direction],
        sampler: str,
        seed: int,
        spared: int = 0,
    ) -> None:
        """``file`` is the journal; None for a study that is only in memory. A trial is not pruned within its
        first ``spared`` validations. Raises ``RunError`` if the file is damaged.
        """
        self.metric, self.direction = list(metric), list(direction)
        self._sampler, self._seed, self._spared = sampler, seed, spared
        self._distributions = {key: _distribution(of_key) for key, of_key in ranges.items()}
        with _quiet():
            self._storage = InMemoryStorage() if file is None else _open(file)
            self._study = optuna.create_study(
                storage=self._storage, study_name=_NAME, directions=self.direction, load_if_exists=True
            )
            for trial in self._study.get_trials(deepcopy=False):
                if trial.state == TrialState.RUNNING and not self._is_whole(trial):
                    self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that tells this search from others; empty before it is noted."""
        return dict(self._study.user_attrs.get(_IDENTITY, {}))

    def note_identity(self, identity: Mapping[str, Any]) -> None:
        """Record everything that tells this search from others."""
        self._study.set_user_attr(_IDENTITY, dict(identity))

    @property
    def running(self) -> dict[int, dict[str, Any]]:
        """Parameters of the trials that were asked for and not told, by number."""
        return {t.number: t.params for t in self._trials() if t.state == TrialState.RUNNING}

    @property
    def asked(self) -> int:
        """Number of trials so far."""
        return len(self._trials())

    def ask(self) -> dict[str, Any]:
        """Ask for the parameters of one more trial, which is then running."""
        with _quiet():
            self._study.sampler = _make_sampler(self._sampler, self._seed, len(self._study.get_trials(deepcopy=False)))
            return dict(self._study.ask(self._distributions).params)

    def note_run(self, number: int, run: str) -> None:
        """Record the run of a trial."""
        self._storage.set_trial_user_attr(self._id(number), _RUN, run)

    def tell(
        self, number: int, values: Sequence[float], why: str = "", *, curve: Sequence[float] = (), pruned: bool = False
    ) -> None:
        """End a trial: ``pruned`` or, with a value for each metric, complete; without any it has failed.

        ``curve`` are the values of its validations, the last of which is a pruned trial's.
        """
        if why:
            self._storage.set_trial_user_attr(self._id(number), _WHY, why)
        for validation, value in _finite(curve).items():
            self._storage.set_trial_intermediate_value(self._id(number), validation, value)
        with _quiet():
            if pruned:
                self._study.tell(number, state=TrialState.PRUNED)
            elif values:
                self._study.tell(number, list(values))
            else:
                self._study.tell(number, state=TrialState.FAIL)

    def judge(self, before: int) -> "Judge":
        """Judge of the curves of trials, by those of the complete trials with numbers below ``before``."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return Judge([t for t in complete if t.number < before], self.direction[0], self._spared)

    def record(self) -> Search:
        """The search as reports read it."""
        return Search(metric=self.metric, direction=self.direction, trials=[_trial(t) for t in self._trials()])

    def _trials(self) -> list[FrozenTrial]:
        """Trials whose parameters are known."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if self._is_whole(trial)]

    def _is_whole(self, trial: FrozenTrial) -> bool:
        """False for a trial that was being asked for when its process was killed."""
        return trial.params.keys() == self._distributions.keys()

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(
            self._storage.get_study_id_from_name(_NAME), number
        )


class Judge:
    """Optuna's ``MedianPruner``: a trial ends where its best value so far is worse than the median of the ``complete``
    trials at that validation, if there are five of them.
    """

    def __init__(self, complete: Sequence[FrozenTrial], direction: Direction, spared: int) -> None:
        """No trial ends within its first ``spared`` validations."""
        self._pruner = MedianPruner(n_warmup_steps=spared + 1)
        with _quiet():
            self._study = optuna.create_study(direction=direction)
            self._study.add_trials(complete)

    def pruned_at(self, curve: Sequence[float], judged: int = 0) -> int | None:
        """Validation, from 1 on, at which a trial with the values ``curve`` ends; None if it goes on.

        It is known not to end at any of the first ``judged``.
        """
        seen: dict[int, float] = {}
        for validation, value in _finite(curve).items():
            seen[validation] = value
            if validation <= judged:
                continue
            trial = create_trial(state=TrialState.RUNNING, intermediate_values=seen)
            if self._pruner.prune(self._study, trial):
                return validation
        return None


def _finite(curve: Sequence[float]) -> dict[int, float]:
    """The values that are numbers, by validation, from 1 on."""
    return {validation: value for validation, value in enumerate(curve, start=1) if math.isfinite(value)}


def _open(file: Path) -> BaseStorage:
    """The journal ``file``, without a last line that a kill has cut off, to which the next would be appended."""
    if file.exists():
        content = file.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)
    try:
        return JournalStorage(JournalFileBackend(str(file), lock_obj=_HeldLock(str(file))))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(str(file), reason=f"is damaged ({type(error).__name__}: {error})") from error


def _distribution(of_key: Range) -> BaseDistribution:
    if isinstance(of_key, Choices):
        return CategoricalDistribution(of_key.values)
    low, high, step, log = of_key
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, step=int(step or 1), log=log)
    return FloatDistribution(low, high, step=step, log=log)


def _make_sampler(name: str, seed: int, number: int) -> BaseSampler:
    """The sampler of the trial of a ``number``: one with the bare seed would begin again in the next process."""
    seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "random":
        return RandomSampler(seed=seed)
    return NSGAIISampler(seed=seed) if name == "nsgaii" else TPESampler(seed=seed, constant_liar=True)


def _trial(trial: FrozenTrial) -> Trial:
    return Trial(
        number=trial.number,
        state=_STATES.get(trial.state, "running"),
        run=trial.user_attrs.get(_RUN),
        values=list(trial.values or ()),
        params=trial.params,
        why=trial.user_attrs.get(_WHY, ""),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna neither log every trial nor warn of experiments of its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
