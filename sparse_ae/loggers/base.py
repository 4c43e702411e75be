"""The contract of a run's loggers, and all those of one run."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from sparse_ae.config.build import TARGET, build, locate, selected
from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.run.directory import Run


class RunLogger(Logger, ABC):
    """A Lightning logger of one run, which Lightning and callbacks log into between ``begin`` and ``finish``.

    An attempt that continues the run calls ``resume`` in place of ``begin``. Nothing is written before either.
    """

    keeps_curves = False
    """True if reports can read its scalars back."""
    draws = False
    """True if it takes images, which need not be made otherwise."""

    def __init__(self, *, run: Run) -> None:
        self.run = run

    @property
    def name(self) -> str:
        """Empty: the folder of the run has a name."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as ``name`` is."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the run."""
        return str(self.run.path)

    def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
        """Log nothing: ``begin`` has the run's options, under the keys of reports."""

    @abstractmethod
    def begin(self, options: Mapping[str, Any]) -> None:
        """Log ``options``, dotted keys to plain values, as the hyperparameters of a run that logs here for the first
        time.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain values of a moment in training, kept in the checkpoint; what was logged before them is on disk."""

    @abstractmethod
    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` returned ``state``: training logs again what came after."""

    @abstractmethod
    def finish(self) -> None:
        """Close the record of a run whose test is done."""

    @property
    def watch(self) -> tuple[str, ...]:
        """Command that shows what was logged; empty if the run's folder does."""
        return ()

    def add_image(self, tag: str, image: Tensor, step: int) -> None:
        """Log an image ``(3, H, W)`` with values from 0 to 1, if the logger takes images."""

    def add_histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Log the distribution of ``values``, of any shape, if the logger takes distributions."""

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Log a text, if the logger takes texts."""


class Loggers:
    """The loggers of one run by the names of their options."""

    def __init__(self, config: Mapping[str, Any], run: Run) -> None:
        """Build those that the group ``logger`` of ``config`` selects. Raises ``ConfigError`` for its mistakes."""
        self._by_name: dict[str, RunLogger] = {}
        mistakes = Mistakes()
        for name, spec in selected(config, "logger").items():
            with mistakes.collect():
                kind = locate(spec[TARGET], key := f"logger.{name}")
                if not (isinstance(kind, type) and issubclass(kind, RunLogger)):
                    raise ConfigError(f"{key}.{TARGET}", spec[TARGET], "not a RunLogger of sparse_ae.loggers")
                self._by_name[name] = build(spec, key, run=run)
        mistakes.check()

    def __iter__(self) -> Iterator[RunLogger]:
        return iter(self._by_name.values())

    def begin(self, options: Mapping[str, Any], logged: Mapping[str, Any] | None) -> None:
        """Begin to log, or continue those loggers whose states are in ``logged``; a further one begins here."""
        for name, logger in self._by_name.items():
            if logged and name in logged:
                logger.resume(logged[name])
            else:
                logger.begin(options)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log ``metrics`` at a step of training into all of them."""
        for logger in self:
            logger.log_metrics(dict(metrics), step)

    def state_dict(self) -> dict[str, Any]:
        """State of each by name, for a checkpoint; empty on all ranks but the first, which log nothing."""
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        return {name: logger.state_dict() for name, logger in self._by_name.items()} if is_first else {}

    def finish(self) -> None:
        """Close all of them."""
        for logger in self:
            logger.finish()

    @property
    def doubts(self) -> Iterator[str]:
        """Consequence of the choice that a user may not expect, a line."""
        if not any(logger.keeps_curves for logger in self):
            chosen = f"logger=[{','.join(self._by_name)}]"
            yield f"{chosen}: reports have no training curves, which they read from tensorboard's files or csv's"


def require(package: str) -> None:
    """Raise ``ConfigError`` unless ``package``, which the extra of that name brings, is installed."""
    found = find_spec(package)
    if found is None or found.origin is None:  # a folder of that name, such as offline runs, is no package
        raise ConfigError("logger", package, f"not installed; pip install 'sparse-ae[{package}]' brings it")
