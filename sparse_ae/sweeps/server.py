"""The server that jobs on this machine are forked from. Nothing here imports torch."""

import multiprocessing
import signal
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sparse_ae.config.build import TARGET
from sparse_ae.training.stop import catch, restore

# Forked from a server that has imported everything and computed nothing, a job starts at once and has no threads,
# no CUDA context and no memory of another's. Elsewhere forking is not safe.
_FORKS = sys.platform == "linux"
CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
"""Makes the processes of jobs."""

LOCAL = "sparse_ae.sweeps.local.LocalLauncher"
"""Our launcher, named and not imported."""
PRELOAD = [
    "sparse_ae.jobs.autoencoder",
    "sparse_ae.jobs.coder",
    "sparse_ae.jobs.execute",
    "sparse_ae.analysis.overview",
    "sparse_ae.training.visuals",
]
"""Everything that a job imports. None of it may compute or ask for a GPU when it is imported."""


def is_local(config: DictConfig) -> bool:
    """True if the launcher of a sweep is ours and not a plugin."""
    return bool(OmegaConf.select(config, f"hydra.launcher.{TARGET}") == LOCAL)


def waits_here(config: DictConfig) -> bool:
    """True if the jobs will be processes of this one; else they may be anywhere, or in a queue."""
    return is_local(config) or config.hydra.runtime.choices.get("hydra/launcher") == "basic"


def warm_up() -> None:
    """Start the server, if there is none, which then imports torch; if possible, before this process does.

    Started from the main thread, it ignores what schedulers and shells send to process groups: it must outlive its jobs
    to report their exit codes. Only the main thread can see to that.
    """
    if not _FORKS:
        return
    from multiprocessing import forkserver

    CONTEXT.set_forkserver_preload(PRELOAD)
    before = catch(signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        restore(before)
