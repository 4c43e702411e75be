"""Record of a search: its trials, what they reached, and which are best; ``search.json`` and ``search.csv``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sparse_ae.atomic import write_atomically
from sparse_ae.plotting.fronts import non_dominated
from sparse_ae.plotting.style import Array
from sparse_ae.run.errors import RunError

Direction = Literal["minimize", "maximize"]
State = Literal["running", "complete", "failed", "pruned"]


class Trial(BaseModel):
    """One trial of a search."""

    model_config = ConfigDict(frozen=True)

    number: int
    """Place in the search, from 0."""
    state: State
    """State: also ``running`` of a trial whose process was killed, until the search is resumed."""
    run: str | None
    """Folder of its run, below the search's; None if its overrides made none."""
    values: list[float]
    """Value of each metric: the last one of a pruned trial, none of one that runs or failed."""
    params: dict[str, Any]
    """Number, or text of the choice, under each key."""
    why: str = ""
    """Reason that it failed, or of what its run lacks; else empty."""


class Search(BaseModel):
    """A search as its folder tells it."""

    model_config = ConfigDict(frozen=True)

    metric: list[str]
    """Names of the metrics that it looks at, one or two."""
    direction: list[Direction]
    """Direction in which each metric is better."""
    trials: list[Trial]
    """Trials in the order in which they were asked for."""

    @model_validator(mode="after")
    def _check(self) -> "Search":
        if len(self.metric) != len(self.direction) or not self.metric:
            raise ValueError("metric and direction differ in length")
        if any(len(trial.values) != len(self.metric) for trial in self.complete):
            raise ValueError("a complete trial lacks values")
        return self

    @property
    def complete(self) -> list[Trial]:
        """Trials that have values."""
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def best(self) -> list[Trial]:
        """The best trial, the first of equals; of two metrics those on the front, in the order of the first one."""
        complete = self.complete
        if not complete:
            return []
        costs = self.costs()
        if len(self.metric) == 1:
            return [complete[int(costs[0].argmin())]]
        front = np.flatnonzero(non_dominated(*costs))
        return [complete[i] for i in front[np.argsort(costs[0][front], kind="stable")]]

    @property
    def best_so_far(self) -> Array:
        """Best value ``(T,)`` of the first metric among each complete trial and those before it."""
        best: Array = np.minimum.accumulate(self.costs()[0])
        return best if self.direction[0] == "minimize" else -best

    def costs(self) -> Array:
        """Values ``(M, T)`` of the complete trials, with a sign by which less is better."""
        signs = np.array([1.0 if direction == "minimize" else -1.0 for direction in self.direction])
        values: Array = np.array([trial.values for trial in self.complete], dtype=float).T
        costs: Array = values * signs[:, None]
        return costs


def read_search(folder: Path) -> Search | None:
    """The search in ``folder``, None if there was none. Raises ``RunError`` if its record is damaged."""
    file = _file(folder)
    if not file.is_file():
        return None
    try:
        return Search.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise RunError(str(file), reason=f"is damaged ({error.errors()[0]['msg']})") from error


def write_search(folder: Path, search: Search) -> None:
    """Write ``search.json``, and ``search.csv`` with a row per trial, into ``folder``."""
    rows = [_row(search, trial) for trial in search.trials]
    table = pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")
    write_atomically(folder / "search.csv", table.encode(errors="replace"))
    write_atomically(_file(folder), (json.dumps(search.model_dump(), indent=2, allow_nan=False) + "\n").encode())


def _row(search: Search, trial: Trial) -> Mapping[str, Any]:
    values: list[float | None] = [*trial.values] or [None for _ in search.metric]
    return {
        "trial": trial.number,
        "state": trial.state,
        "run": trial.run,
        **dict(zip(search.metric, values, strict=True)),
        **trial.params,
        "why": trial.why,
    }


def _file(folder: Path) -> Path:
    return folder / "search.json"
