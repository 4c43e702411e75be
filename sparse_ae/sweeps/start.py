"""Start of a sweep: the server of its jobs first, then the imports of the sweep. At its top this imports no torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.sweeps.server import waits_here, warm_up

if TYPE_CHECKING:
    from sparse_ae.sweeps.outcome import Outcome


def start_sweep(name: str, job: str, config: DictConfig, overrides: Sequence[str]) -> "Outcome":
    """Execute ``sweeper.sweep``; before that, start the server if the jobs will be processes of this one."""
    _check_hydra(config)
    if waits_here(config):
        warm_up()
    # Only now, so that a command and its server import torch and Lightning at the same time.
    from sparse_ae.sweeps.sweeper import sweep

    return sweep(name, job, config, overrides)


def _check_hydra(config: DictConfig) -> None:
    """Raise ``ConfigError`` for settings of Hydra that do nothing in a sweep's jobs, which log into their folders."""
    mistakes = Mistakes()
    usual = {"job.chdir": "false", "verbose": "false", "output_subdir": "null", "callbacks": "{}"}
    for key, expected in usual.items():
        if value := OmegaConf.select(config.hydra, key):
            mistakes.add(ConfigError(f"hydra.{key}", value, "has no effect on the jobs of a sweep", expected))
    logging = config.hydra.runtime.choices.get("hydra/job_logging")
    if logging != "none":
        mistakes.add(ConfigError("hydra/job_logging", logging, "each job of a sweep logs into its own folder", "none"))
    mistakes.check()
