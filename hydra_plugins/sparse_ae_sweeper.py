"""What Hydra finds of sparse_ae's sweeps: plugins have to live in this namespace. Every command imports it."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import PositiveInt


class GridSweeper(Sweeper):
    """Every combination of ``params``, for each of ``grids``; what is finished already is skipped."""

    def __init__(self, params: Mapping[str, Any], grids: Sequence[Mapping[str, Any]], stop_file: str | None) -> None:
        """``params`` and each of ``grids`` map a key to its values, as on the command line: ``{seed: "1,2,3"}``."""
        self.params = params
        self.grids = grids

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        from sparse_ae.sweep.sweeper import sweep

        sweep(self.hydra_context, self.config, arguments)


class JoblibLauncher(Launcher):
    """Jobs in parallel on this machine, each in a process of its own; joblib's threads wait for them."""

    def __init__(self, n_jobs: PositiveInt | None, jobs_per_gpu: PositiveInt) -> None:
        """``n_jobs`` at a time; None: as many as the machine has room for."""
        self.n_jobs = n_jobs
        self.jobs_per_gpu = jobs_per_gpu

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from sparse_ae.sweep.local import launch

        launch(self.hydra_context, self.config, job_overrides, n_jobs=self.n_jobs, jobs_per_gpu=self.jobs_per_gpu)
        return []
