"""Start of a sweep."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from sparse_ae.sweeps.server import waits_here, warm_up

if TYPE_CHECKING:
    from sparse_ae.sweeps.outcome import Outcome


def start_sweep(name: str, job: str, config: DictConfig, overrides: Sequence[str]) -> "Outcome":
    """Execute the sweep that ``sweeper.sweep`` describes, with a server for its jobs if they are to be here."""
    if waits_here(config):
        warm_up()
    # Only now, so that this process and the server import torch and Lightning at the same time.
    from sparse_ae.sweeps.sweeper import sweep

    return sweep(name, job, config, overrides)
