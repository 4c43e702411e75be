"""The contract of a job: one run's parts, built and not yet started."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from sparse_ae.analysis.base import check_need
from sparse_ae.coders import CoderModule
from sparse_ae.config.build import TARGET, check_spec, locate, selected
from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.data import DataModule
from sparse_ae.packing.packable import Packable
from sparse_ae.reporting.columns import Flat, as_method, flat_config
from sparse_ae.run.directory import Run
from sparse_ae.run.naming import relevant_config
from sparse_ae.training.stop import StopSignals

C = TypeVar("C", bound=CoderModule)


class StartingPoint(NamedTuple):
    """Starting point of a run."""

    path: Path | None
    """A checkpoint; None to begin from nothing."""
    logged: dict[str, Any] | None
    """State of each logger at the checkpoint, by name, if it is the run's own."""
    damaged: str | None = None
    """Why a newer checkpoint was passed over, if one was."""


class Job(ABC):
    """One run's config as objects. Building it writes nothing and reads no images.

    Raises ``ConfigError`` for every mistake in the config.
    """

    config: Mapping[str, Any]
    run: Run
    data: DataModule
    active_threshold: float
    rerun: str
    device: torch.device
    """Device that it learns on."""
    stop: StopSignals
    """Requests to stop the run."""

    @property
    def is_main_process(self) -> bool:
        """True on rank 0."""
        return True

    @property
    def devices(self) -> int:
        """Number of devices that train this run."""
        return 1

    @property
    def units(self) -> int | None:
        """N of a classical coder whose options do not give it; else None."""
        return None

    @property
    def packable(self) -> Packable | None:
        """Facts about it if it can train together with other jobs."""
        return None

    @property
    def options(self) -> Flat:
        """Options that change the result, under the keys of reports, for TensorBoard's HParams tab.

        A group without options has its name too, such as ``target: none``: TensorBoard counts no missing value as
        another one. The names are those in the run's folder, which has been begun.
        """
        config, choices = relevant_config(self.config), self.run.choices
        empty = {group: choices[group] for group, node in config.items() if node == {} and group in choices}
        return as_method({**flat_config(config, choices), **empty}, self.units)

    def inspect(self) -> None:
        """Read the user's own data once, before anything is written. Raises ``ConfigError`` if they are of no use."""
        for name, spec in missing_analyses(self.run, self.config).items():
            check_need(locate(spec[TARGET], f"analysis.{name}"), self.data)
        self.data.inspect()
        if not self.data.sizes["test"]:
            raise ConfigError("data.test_size", 0, "a run ends with the metrics of its test split", "above 0")

    def in_units_of_data(self, coder: C) -> C:
        """Tell ``coder`` what its input is: the scale and the shape of the data, and their type."""
        data = self.data
        coder.scale, coder.input_shape, coder.takes_integers = data.scale.cpu(), data.input_shape, data.are_integers
        return coder

    def resume_from(self) -> Path | None:
        """The checkpoint of another run to begin with, if there is one. Raises ``RunError`` if it does not fit."""
        return None

    @abstractmethod
    def fit_and_test(self, start: StartingPoint) -> None:
        """Learn from the training split, and measure the result on the others."""

    @abstractmethod
    def write_results(self) -> None:
        """Write the metrics and the exported model into the run."""

    def verdict(self) -> dict[str, Any] | None:
        """``met`` and, if not, the ``reason``, of a run that was asked for a sparsity; None if nothing was."""
        return None


def check_analyses(run: Run, config: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for analyses that ``run`` lacks and that cannot be done."""
    mistakes = Mistakes()
    for name, spec in missing_analyses(run, config).items():
        with mistakes.collect():
            check_spec(spec, f"analysis.{name}")
    mistakes.check()


def missing_analyses(run: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """The specs of selected analyses that ``run`` has no result of."""
    return {name: spec for name, spec in selected(config, "analysis").items() if not run.has_analysis(name)}
