"""What every command that makes a run takes from its config: a thing built, not yet started, that fills the run."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sparse_ae.config.build import check_arguments
from sparse_ae.config.errors import ConfigError, did_you_mean, listed
from sparse_ae.runs.directory import Run

if TYPE_CHECKING:
    import torch

    from sparse_ae.data import ImageDataModule

S = TypeVar("S", bound=tuple[Any, ...])


class StartingPoint(NamedTuple):
    """Where a run begins."""

    path: Path | None
    """A checkpoint; None for a beginning from nothing."""
    event_sizes: dict[str, int] | None
    """If the checkpoint is the run's own: how long its event files were then."""
    damaged: str | None = None
    """What is wrong with the newer checkpoint that was passed over, if one was."""


class Experiment(ABC):
    """What a config describes, built and not yet started. Building it writes nothing, and reads no images."""

    data: "ImageDataModule"
    active_threshold: float
    rerun: str
    device: "torch.device"
    """Where it learns."""

    @property
    def is_main_process(self) -> bool:
        """Whether it is this one of several processes that keeps the books."""
        return True

    @property
    def devices(self) -> int:
        """So many train one run together."""
        return 1

    def resume_from(self) -> Path | None:
        """The checkpoint of another run to begin with, if there is one. Raises ``RunError`` if it does not fit."""
        return None

    @abstractmethod
    def fit_and_test(self, start: StartingPoint) -> None:
        """Learn from the training split, and measure the result on the others."""

    @abstractmethod
    def write_results(self, run: Run) -> None:
        """Metrics and the exported model."""

    def verdict(self) -> dict[str, Any] | None:
        """Whether the run has what was asked of it: ``met`` and, if not, the ``reason``; None if nothing was."""
        return None


def read_settings(kind: type[S], config: Mapping[str, Any], groups: Collection[str]) -> S:
    """The config's own scalars as a ``kind`` of NamedTuple, once every key of its top level is known."""
    for group in groups:
        if not isinstance(config.get(group), Mapping):
            raise ConfigError(f"{group}: is no group of options (given: {config.get(group, 'nothing')})")
    known: list[str] = [*kind._fields]  # type: ignore[attr-defined]
    scalars = {key: value for key, value in config.items() if key not in groups}
    for key in scalars:
        if key not in known:
            raise ConfigError(
                f"{key}: no such key{did_you_mean(key, [*known, *groups])} (expected {listed([*known, *groups])})"
            )
    return kind(**check_arguments(kind, scalars, ""))


def analyses_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The specs of the analyses asked for, by name. What an experiment says of one that is not, with ``analysis=[]``,
    is all there is of that. Raises ``ConfigError`` for what is none.
    """
    for name, spec in config["analysis"].items():
        if not isinstance(spec, Mapping):
            raise ConfigError(f"analysis.{name}={spec}: is no analysis (allowed: a group of options)")
    return {name: spec for name, spec in config["analysis"].items() if "_target_" in spec}
