"""From a composed config to everything that one run is made of, built and not yet started."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sparse_ae.jobs.base import Experiment, StartingPoint, analyses_of
from sparse_ae.runs.directory import Run

if TYPE_CHECKING:
    from sparse_ae.training.stop import StopSignals

__all__ = ["Experiment", "StartingPoint", "analyses_of", "assemble"]


def assemble(config: Mapping[str, Any], run: Run, stop: "StopSignals | None" = None) -> Experiment:
    """Build what ``config`` describes, in ``run``'s folder: a classical coder where it has a ``coder``, else an
    autoencoder. ``stop`` is what asks it to stop. Raises ``ConfigError`` for the first key that is wrong.
    """
    if "coder" in config:
        from sparse_ae.jobs.coder import CoderExperiment

        return CoderExperiment(config, run)  # what is stopped at once loses at most an epoch
    from sparse_ae.jobs.autoencoder import TrainingExperiment

    return TrainingExperiment(config, run, stop)
