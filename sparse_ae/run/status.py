"""``status.json``: the state of a run, and the record that its attempts write."""

import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sparse_ae.atomic import write_atomically
from sparse_ae.run.errors import RunError
from sparse_ae.run.naming import config_hash
from sparse_ae.run.provenance import git_commit, versions

State = Literal["new", "running", "finished", "failed", "interrupted"]


class Status(BaseModel):
    """Contents of ``status.json``; the defaults are those of a run that has not started."""

    model_config = ConfigDict(frozen=True)

    state: State = "new"
    """State as the last attempt wrote it: ``running`` also of a process that was killed."""
    progress: float = 0.0
    """Share of the training that is done, from 0 to 1."""
    config_hash: str | None = None
    """Hash of everything in the config that changes the result."""
    seed: int | None = None
    """Seed of the run."""
    attempts: int = 0
    """Number of times that the run was started or resumed."""
    sweep: str | None = None
    """Name of the sweep that made the last attempt, if one did."""
    started: str | None = None
    """Time at which the last attempt began, ISO 8601, UTC."""
    finished: str | None = None
    """Time at which the last attempt ended, ISO 8601, UTC."""
    packed: int = 1
    """Number of runs that trained together in the process of the last attempt."""
    wall_seconds: float = 0.0
    """Seconds of all attempts; of an attempt in a pack, its share."""
    fit_seconds: float | None = None
    """Seconds until training was done, a first download of the data included; null for coders that learn nothing."""
    encode_microseconds: float | None = None
    """Time to encode one sample, in a batch, in microseconds."""
    host: str | None = None
    """Machine of the last attempt."""
    pid: int | None = None
    """Process of the last attempt."""
    threads: int | None = None
    """Number of CPU threads that trained."""
    versions: dict[str, str] = {}
    """Versions of Python and of the packages that results depend on."""
    git_commit: str | None = None
    """Commit of the code, ``-dirty`` if tracked files differ from it; null for an installed copy."""
    error: str | None = None
    """Reason of a failure or an interruption, one line."""
    stopped: str | None = None
    """Reason why training ended before ``trainer.max_epochs``, one line; null if it did not."""
    target: dict[str, Any] | None = None
    """Verdict on the target of a finished run: measure, wanted, reached, met, reason."""


class StatusRecord:
    """Reader and writer of one ``status.json``. Writes are atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packed = 1
        """Number of runs that share this process."""
        self.clock = time.monotonic
        """Seconds that were spent on this run."""
        self._attempt: int | None = None
        self._seconds_before = 0.0
        self._started = self.clock()

    def read(self) -> Status:
        """The recorded status. Raises ``RunError`` if the file is damaged."""
        if not self.path.is_file():
            return Status()
        try:
            return Status.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise RunError(str(self.path), reason=f"is damaged ({reason})") from error

    def read_last(self) -> Status:
        """Status of the attempt before this one; that of a new run if there was none or it cannot be read."""
        try:
            return self.read()
        except RunError:
            return Status()

    def start(
        self, config: Mapping[str, Any], *, resumed: bool, threads: int, sweep: str | None, repeats: bool
    ) -> None:
        """Record that an attempt begins.

        ``resumed``: it continues an earlier one, whose progress and times count. ``repeats``: it may train again what
        an earlier attempt had trained, so that ``fit_seconds`` is open.
        """
        last = self.read_last()
        before = last if resumed else Status()
        self._attempt = last.attempts + 1
        self._seconds_before = before.wall_seconds
        self._started = self.clock()
        status = Status(
            state="running",
            progress=before.progress,
            config_hash=config_hash(config),
            seed=config["seed"],
            attempts=self._attempt,
            sweep=sweep,
            started=_now(),
            packed=self.packed,
            wall_seconds=self._seconds_before,
            fit_seconds=None if repeats else before.fit_seconds,
            host=socket.gethostname(),
            pid=os.getpid(),
            threads=threads,
            versions=versions(),
            git_commit=git_commit(),
        )
        self._write(status)

    def note_progress(self, share: float) -> None:
        """Record the share of the training that is done, from 0 to 1."""
        self._update(progress=round(share, 4))

    def note_fitted(self, stopped: str | None = None) -> None:
        """Record that training is done, and why if it was ``stopped`` early.

        ``fit_seconds`` stay as they are if the run is resumed after this.
        """
        seconds = self._wall_seconds()
        self._update(progress=1.0, fit_seconds=self.read().fit_seconds or seconds, stopped=stopped)

    def note_encoding(self, seconds: float) -> None:
        """Record the time to encode one sample, given in seconds."""
        self._update(encode_microseconds=round(seconds * 1e6, 3))

    def end(
        self,
        state: State,
        config: Mapping[str, Any],
        error: str | None = None,
        target: Mapping[str, Any] | None = None,
    ) -> None:
        """Record how an attempt ended, also one that ended before it could start."""
        last = self.read_last()
        changes: dict[str, Any] = {
            "state": state,
            "error": error,
            "finished": _now(),
            "wall_seconds": self._wall_seconds(),
            "config_hash": config_hash(config),
            "seed": config["seed"],
            "attempts": self._attempt or last.attempts + 1,
        }
        if target is not None:
            changes["target"] = dict(target)
        self._write(last.model_copy(update=changes))

    def mark_killed(self, error: str) -> None:
        """Record why the training process ended, if it was killed before it could."""
        status = self.read()
        if status.state == "running":
            self._write(status.model_copy(update={"state": "interrupted", "error": error, "finished": _now()}))

    def _wall_seconds(self) -> float:
        return round(self._seconds_before + self.clock() - self._started, 3)

    def _update(self, **changes: Any) -> None:
        self._write(self.read().model_copy(update={**changes, "wall_seconds": self._wall_seconds()}))

    def _write(self, status: Status) -> None:
        write_atomically(self.path, (json.dumps(status.model_dump(), indent=2, allow_nan=False) + "\n").encode())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
