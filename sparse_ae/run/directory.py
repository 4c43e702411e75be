"""Reader and writer of a run directory; no other module touches its files.

<run>/
  .hydra/{config,overrides,hydra}.yaml   the composed configuration and where it came from
  .lock, .lock.holder                    held by the process that trains the run; names that process
  status.json                            state, progress, config hash, times, versions, git commit, error
  metrics.json                           final metrics, flat
  checkpoints/{last,previous,best}.ckpt
  model.safetensors, model.json          weights and what rebuilds the model, no pickle
  events.out.tfevents.*                  TensorBoard
  metrics.csv, hparams.yaml, wandb/      other loggers
  projector_config.pbtxt                 what its projector shows
  analysis/<name>/{result.json,*.npz,*.png,*.svg}
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sparse_ae.atomic import write_atomically
from sparse_ae.lock import HeldError, describe_holder, hold, is_held
from sparse_ae.run.errors import RunBusyError, RunError
from sparse_ae.run.status import State, Status, StatusRecord

R = TypeVar("R", bound="Run")

_EVENTS = "events.out.tfevents.*"


class Run:
    """One run directory. Every write is atomic: a reader sees the old file or the new one, never half of either."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.previous_checkpoint = self.checkpoints / "previous.ckpt"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.log = self.path / "train.log"
        self.metrics_table = self.path / "metrics.csv"
        self.weights = self.path / "model.safetensors"
        self.model_spec = self.path / "model.json"
        self.record = StatusRecord(self.path / "status.json")

    @classmethod
    def open(cls: type[R], path: Path | str) -> R:
        """An existing run. Raises ``RunError`` if ``path`` is no run directory."""
        run = cls(path)
        if not run.path.is_dir():
            raise RunError("run", path, "no such folder", "a run's folder, such as outputs/default/<run>")
        if not run.record.path.is_file() or not run._config_file.is_file():
            reason = "not a run's folder; it lacks status.json or .hydra/config.yaml"
            raise RunError("run", path, reason)
        return run

    @property
    def config(self) -> dict[str, Any]:
        """The composed config that the run was made with."""
        try:
            config = OmegaConf.to_container(OmegaConf.load(self._config_file), resolve=True)
        except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
            reason = f".hydra/config.yaml cannot be read ({type(error).__name__})"
            raise RunError("run", self.path, reason) from error
        if not isinstance(config, dict):
            raise RunError("run", self.path, ".hydra/config.yaml holds no configuration")
        for key in ("data", *(() if "coder" in config else ("model", "sparsity")), "seed", "active_threshold"):
            if key not in config:
                raise RunError(
                    "run", self.path, f".hydra/config.yaml is not the configuration of a run; it has no {key}"
                )
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
        except (YAMLError, UnicodeDecodeError, OSError, KeyError, TypeError, AttributeError) as error:
            reason = f".hydra/hydra.yaml cannot be read ({type(error).__name__})"
            raise RunError("run", self.path, reason) from error

    @property
    def status(self) -> Status:
        """Contents of ``status.json``; the defaults before the run starts."""
        return self.record.read()

    def read_state(self) -> State:
        """State of the run: ``new`` before it starts, ``interrupted`` if its process was killed.

        A finished run whose results are missing is ``interrupted`` too. Reads files and tries the lock.
        """
        status = self.status
        while status.state == "running" and not self.is_locked:
            before, status = status, self.status
            if status == before:  # else it ended after the first look
                return "interrupted"
        lacks_results = status.state == "finished" and not (self._metrics_file.exists() and self.weights.exists())
        return "interrupted" if lacks_results else status.state

    @property
    def metrics(self) -> dict[str, float | None]:
        """Contents of ``metrics.json``; empty before the run is finished."""
        return self._read_json(self._metrics_file)

    def has_analysis(self, name: str) -> bool:
        """True if the analysis was done."""
        return (self.path / "analysis" / name / "result.json").is_file()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from training this run.

        Raises ``RunBusyError`` if one trains it, ``RunError`` if the lock cannot be written.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(hold(self._lock_file))
            except HeldError:
                raise self._busy() from None
            except OSError as error:
                file, reason = str(self.shown_path / ".lock"), f"cannot be locked ({error.strerror})"
                raise RunError(file, reason=reason, expected="a file that you may write") from error
            yield

    @property
    def is_locked(self) -> bool:
        """True if a process is training this run."""
        return is_held(self._lock_file)

    def raise_if_locked(self) -> None:
        """Raise ``RunBusyError`` if a process is training this run."""
        if self.is_locked:
            raise self._busy()

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
        """Begin an attempt: remove what an earlier one left unless it is resumed, and write ``.hydra`` and the status.

        ``sources`` are the files of ``.hydra``; for the rest see ``StatusRecord.start``.
        """
        if not resumed:
            self._clear()
        for name, text in sources.items():
            (self.path / ".hydra").mkdir(exist_ok=True)
            write_atomically(self.path / ".hydra" / name, text.encode())
        for half in self.checkpoints.glob(".*.ckpt*"):  # of a save that was killed
            half.unlink()
        self.record.start(config, resumed=resumed, threads=threads, sweep=sweep, repeats=repeats)

    def mark_killed(self, error: str) -> None:
        """Record why the training process ended, if it was killed before it could and nobody resumes the run."""
        with suppress(RunError):
            if self.status.state == "running":
                with self.lock():
                    self.record.mark_killed(error)

    @property
    def event_files(self) -> list[Path]:
        """TensorBoard's files; empty if nothing was logged there."""
        return sorted(self.path.glob(_EVENTS))

    def rewind_events(self, sizes: Mapping[str, int]) -> None:
        """Cut the event files back to ``sizes`` in bytes and remove newer ones: a resumed run logs the rest again."""
        for path in self.event_files:
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
        """Write ``files``, names to contents, into ``analysis/<name>`` in place of an earlier result's.

        ``result.json`` comes last, so that an analysis which has one is whole. Returns the paths of ``files``.
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
        """Write ``projector_config.pbtxt``, the settings of TensorBoard's projector."""
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
        """The description that rebuilds the model. Raises ``RunError`` if the run has not exported one."""
        if not self.model_spec.is_file():
            reason = f"has no model yet; its state is {self.read_state()}, and a model is written at the end"
            raise RunError("run", self.path, reason)
        return self._read_json(self.model_spec)

    @property
    def units(self) -> int:
        """N of its model. Raises ``RunError`` if the run has not exported one."""
        spec = self.read_model_spec()
        if not isinstance(spec.get("latent_dim"), int):
            raise RunError(str(self.model_spec), reason="is damaged (it has no latent_dim)")
        return int(spec["latent_dim"])

    def _busy(self) -> RunBusyError:
        reason = f"is being trained by {describe_holder(self.shown_path / '.lock')}"
        return RunBusyError(str(self.shown_path), reason=reason)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    @property
    def _metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def _config_file(self) -> Path:
        return self.path / ".hydra" / "config.yaml"

    def _clear(self) -> None:
        for name in ("checkpoints", "analysis", "wandb"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for path in [
            self._metrics_file,
            self.metrics_table,
            self.path / "hparams.yaml",
            self.weights,
            self.model_spec,
            self.path / "report.html",
            self.path / "projector_config.pbtxt",
            *self.path.glob("units*.html"),
            *self.event_files,
        ]:
            path.unlink(missing_ok=True)

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def _read_json(self, path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_text())
        except ValueError as error:
            raise RunError(str(path), reason=f"is damaged ({error})") from error
        if not isinstance(value, dict):
            raise RunError(str(path), reason="is damaged (it holds no mapping)")
        return value
