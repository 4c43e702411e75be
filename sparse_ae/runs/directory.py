"""The only reader and writer of a run directory.

<run>/
  .hydra/{config,overrides,hydra}.yaml   the composed configuration and where it came from
  .lock                                  held by the process that trains the run
  status.json                            state, progress, config hash, times, versions, git commit, error
  metrics.json                           final metrics, flat
  checkpoints/{last,previous,best}.ckpt
  model.safetensors, model.json          weights and what rebuilds the model, no pickle
  events.out.tfevents.*                  TensorBoard
  projector_config.pbtxt                 what its projector shows
  analysis/<name>/{result.json,*.npz,*.png,*.svg}
"""

import json
import math
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sparse_ae.atomic import write_atomically
from sparse_ae.runs.errors import RunBusyError, RunError
from sparse_ae.runs.naming import config_hash
from sparse_ae.runs.provenance import git_commit, versions

State = Literal["new", "running", "finished", "failed", "interrupted"]

_EVENTS = "events.out.tfevents.*"

_LOCK_SECONDS = 1.0
"""So long a process that only looks whether a run is locked may keep the lock from one that wants it."""


class Run:
    """One run directory. Every write is atomic: a reader sees the old file or the new one, never half of either."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.last_checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.previous_checkpoint = self.path / "checkpoints" / "previous.ckpt"
        self.best_checkpoint = self.path / "checkpoints" / "best.ckpt"
        self.log = self.path / "train.log"
        self.weights = self.path / "model.safetensors"
        self.model_spec = self.path / "model.json"
        self._attempt: int | None = None
        self._seconds_before = 0.0
        self._started = time.monotonic()

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """An existing run. Raises ``RunError`` if ``path`` is no run directory."""
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(f"run={path}: no such folder (allowed: a run's folder, such as outputs/default/<run>)")
        if not run._status_file.is_file() or not run._config_file.is_file():
            raise RunError(f"run={path}: is no run's folder (it has no status.json and .hydra/config.yaml)")
        return run

    @property
    def config(self) -> dict[str, Any]:
        """The composed configuration that the run was made with."""
        try:
            config = OmegaConf.to_container(OmegaConf.load(self._config_file), resolve=True)
        except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
            raise RunError(f"run={self.path}: .hydra/config.yaml cannot be read ({type(error).__name__})") from error
        if not isinstance(config, dict):
            raise RunError(f"run={self.path}: .hydra/config.yaml holds no configuration")
        for key in ("data", *(() if "coder" in config else ("model", "sparsity")), "seed", "active_threshold"):
            if key not in config:
                raise RunError(f"run={self.path}: .hydra/config.yaml is no run's configuration (it has no {key})")
        return {str(key): value for key, value in config.items()}

    @property
    def choices(self) -> dict[str, str]:
        """The option chosen of each config group, such as ``{"sparsity": "l1"}``; empty if no command made the run."""
        file = self.path / ".hydra" / "hydra.yaml"
        if not file.is_file():
            return {}
        try:
            chosen = yaml.safe_load(file.read_text())["hydra"]["runtime"]["choices"]
            return {str(group): str(option) for group, option in chosen.items()}
        except Exception as error:  # no YAML, or YAML of another shape
            raise RunError(f"run={self.path}: .hydra/hydra.yaml cannot be read ({type(error).__name__})") from error

    @property
    def status(self) -> dict[str, Any]:
        """What ``status.json`` says; empty before the run starts."""
        return self._read_json(self._status_file)

    @property
    def state(self) -> State:
        """``new`` before the run starts. A run whose process died without a word, or whose results are gone, is
        ``interrupted``.
        """
        status = self.status
        while status.get("state") == "running" and not self.is_locked:
            before, status = status, self.status
            if status == before:  # or it came to its end after the first look
                return "interrupted"
        state: State = status.get("state", "new")
        without_results = state == "finished" and not (self._metrics_file.exists() and self.weights.exists())
        return "interrupted" if without_results else state

    @property
    def metrics(self) -> dict[str, float | None]:
        """What ``metrics.json`` says; empty before the run is finished."""
        return self._read_json(self._metrics_file)

    @property
    def sweep(self) -> str | None:
        """The sweep that made the last attempt, if one did."""
        return self._last_status().get("sweep")

    def has_analysis(self, name: str) -> bool:
        """Whether the analysis was done."""
        return (self.path / "analysis" / name / "result.json").is_file()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process, of this machine or of another that shares the folder, from training this run.

        The operating system gives the lock back when the process ends, however it ends. Raises ``RunBusyError`` if
        another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=_LOCK_SECONDS, poll_interval=0.02)
        except Timeout:
            status = self.status
            who = f"process {status.get('pid')} on {status.get('host')}"
            raise RunBusyError(f"{self.shown_path}: is being trained by {who}") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def is_locked(self) -> bool:
        """Whether a process is training this run."""
        if not self._lock_file.exists():
            return False
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a folder one may only read: believe what status.json says
            return True
        lock.release()
        return False

    def start(
        self,
        *,
        config: Mapping[str, Any],
        resumed: bool,
        sources: Mapping[str, str],
        threads: int,
        sweep: str | None = None,
        repeats: bool = False,
    ) -> None:
        """Mark as running; anything an earlier attempt left is removed unless this one resumes it.

        ``sources`` are the files of ``.hydra``; ``threads`` is how many CPU threads train; ``sweep`` names the sweep.
        ``repeats`` says that what is resumed may train again what an earlier attempt had trained.
        """
        last = self._last_status()
        self._attempt = last.get("attempts", 0) + 1
        before = last if resumed else {}
        if not resumed:
            self._clear()
        for name, text in sources.items():
            (self.path / ".hydra").mkdir(exist_ok=True)
            write_atomically(self.path / ".hydra" / name, text.encode())
        for half in (self.path / "checkpoints").glob(".*.ckpt*"):  # of a save that was killed
            half.unlink()
        self._seconds_before = before.get("wall_seconds") or 0.0
        self._started = time.monotonic()
        self._write_status(
            state="running",
            progress=before.get("progress", 0.0),
            config_hash=config_hash(config),
            seed=config["seed"],
            attempts=self._attempt,
            sweep=sweep,
            started=_now(),
            finished=None,
            wall_seconds=self._seconds_before,
            fit_seconds=None if repeats else before.get("fit_seconds"),
            encode_microseconds=None,
            host=socket.gethostname(),
            pid=os.getpid(),
            threads=threads,
            versions=versions(),
            git_commit=git_commit(),
            error=None,
        )

    def note_progress(self, share: float) -> None:
        """How much of the training is done, from 0 to 1, for whoever watches."""
        self._write_status(**self.status | {"progress": round(share, 4), "wall_seconds": self._wall_seconds()})

    def note_fitted(self) -> None:
        """The coder has learned what it will: ``fit_seconds`` are those of the run up to here, attempts before
        and a first download of the data included, and stay what they are if the run is resumed after this. They stay
        null for a coder that learns nothing itself.
        """
        now = {"progress": 1.0, "wall_seconds": self._wall_seconds()}
        status = self.status
        fitted = status.get("fit_seconds") or now["wall_seconds"]
        self._write_status(**status | now | {"fit_seconds": fitted})

    def note_encoding(self, seconds: float) -> None:
        """How long the coder takes to encode one image, among others, as ``encode_microseconds``."""
        self._write_status(**self.status | {"encode_microseconds": round(seconds * 1e6, 3)})

    def end(
        self,
        state: State,
        config: Mapping[str, Any],
        error: str | None = None,
        target: Mapping[str, Any] | None = None,
    ) -> None:
        """Mark as finished, failed or interrupted: also a run that came to its end before it could start. ``target``
        says whether a finished run has the sparsity that was asked for.
        """
        last = self._last_status()
        attempts = self._attempt or last.get("attempts", 0) + 1
        whose = {"config_hash": config_hash(config), "seed": config["seed"], "attempts": attempts}
        ended = {"state": state, "error": error, "finished": _now(), "wall_seconds": self._wall_seconds()}
        reached = {} if target is None else {"target": dict(target)}
        self._write_status(**last | whose | ended | reached)

    def mark_dead(self, error: str) -> None:
        """Say in ``status.json`` what ended the process that was training this run, if it could not say so itself."""
        with suppress(RunBusyError), self.lock():
            if self.status.get("state") == "running":
                self._write_status(**self.status | {"state": "interrupted", "error": error, "finished": _now()})

    def rewind_events(self, sizes: Mapping[str, int]) -> None:
        """Cut the event files back to ``sizes`` in bytes and remove newer ones: a resumed run logs the rest again."""
        for path in self.path.glob(_EVENTS):
            size = sizes.get(path.name)
            if size is None:
                path.unlink()
            elif path.stat().st_size > size:
                os.truncate(path, size)

    def add_metrics(self, metrics: Mapping[str, float]) -> None:
        """Merge into ``metrics.json``; what is not a finite number is written as null."""
        plain = {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        self._write_json(self._metrics_file, self.metrics | plain)

    def write_analysis(self, name: str, result: Mapping[str, Any], files: Mapping[str, bytes]) -> list[Path]:
        """Write ``files``, names to contents, into ``analysis/<name>`` in place of an earlier result's, and last, for
        a whole analysis, ``result.json``; returns their paths.
        """
        folder = self.path / "analysis" / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.is_file() and old.name not in files:
                old.unlink()
        paths = [folder / file for file in files]
        for path, content in zip(paths, files.values(), strict=True):
            write_atomically(path, content)
        self._write_json(folder / "result.json", result)
        return paths

    def write_projector(self, config: str) -> None:
        """Write what TensorBoard's projector shows, ``projector_config.pbtxt``."""
        write_atomically(self.path / "projector_config.pbtxt", config.encode())

    @property
    def analyses(self) -> list[str]:
        """Every analysis that was done."""
        return sorted(path.parent.name for path in self.path.glob("analysis/*/result.json"))

    def read_analysis(self, name: str) -> dict[str, Any]:
        """The numbers of an analysis; empty if it was not done."""
        return self._read_json(self.path / "analysis" / name / "result.json")

    def figures_of(self, name: str) -> list[Path]:
        """Every figure of one analysis."""
        return sorted((self.path / "analysis" / name).glob("*.png"))

    @property
    def figures(self) -> list[Path]:
        """Every figure of every analysis."""
        return sorted(self.path.glob("analysis/*/*.png"))

    @property
    def shown_path(self) -> Path:
        """The folder as a user would type it: relative to the working directory where it lies below that."""
        path, here = self.path.absolute(), Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path

    def write_model_spec(self, spec: Mapping[str, Any]) -> None:
        """Write ``model.json``."""
        self._write_json(self.model_spec, spec)

    def read_model_spec(self) -> dict[str, Any]:
        """What rebuilds the model. Raises ``RunError`` if the run has not exported one."""
        if not self.model_spec.is_file():
            state = self.status.get("state", "not started")
            raise RunError(
                f"run={self.path}: has no model yet (its state is {state}; model.json is written at the end)"
            )
        return self._read_json(self.model_spec)

    @property
    def units(self) -> int:
        """N of its model. Raises ``RunError`` if the run has not exported one."""
        spec = self.read_model_spec()
        if not isinstance(spec.get("latent_dim"), int):
            raise RunError(f"{self.model_spec}: is damaged (it has no latent_dim)")
        return int(spec["latent_dim"])

    def _last_status(self) -> dict[str, Any]:
        """Of the attempt before this one; empty if there was none or it cannot be read."""
        try:
            return self.status
        except RunError:
            return {}

    def _wall_seconds(self) -> float:
        """Seconds of training in this attempt and, as far as they were noted, in those before."""
        return round(self._seconds_before + time.monotonic() - self._started, 3)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    @property
    def _status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def _metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def _config_file(self) -> Path:
        return self.path / ".hydra" / "config.yaml"

    def _clear(self) -> None:
        for name in ("checkpoints", "analysis"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for path in [
            self._metrics_file,
            self.weights,
            self.model_spec,
            self.path / "report.html",
            self.path / "projector_config.pbtxt",
            *self.path.glob(_EVENTS),
        ]:
            path.unlink(missing_ok=True)

    def _write_status(self, **status: Any) -> None:
        self._write_json(self._status_file, status)

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def _read_json(self, path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_text())
        except ValueError as error:
            raise RunError(f"{path}: is damaged ({error})") from error
        if not isinstance(value, dict):
            raise RunError(f"{path}: is damaged (holds no mapping)")
        return value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
