"""One run, from a composed config to its end: built and checked whole before anything is written, then executed."""

from pkgutil import resolve_name

from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from sparse_ae.atomic import make_writable
from sparse_ae.cli.compose import folder, hydra_context, sources, task_config
from sparse_ae.config.errors import ConfigError
from sparse_ae.jobs.base import Job
from sparse_ae.jobs.execute import execute, is_settled, starting_point
from sparse_ae.lock import lacks_locks
from sparse_ae.reporting.console import warn
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError


class SingleRun:
    """One run that is built and not yet started; nothing is written before ``execute``.

    ``kind`` is the path of the ``Job``, ``package.module:Name``, that ``config`` describes. Raises ``ConfigError`` for
    every mistake in the config.
    """

    def __init__(self, kind: str, config: DictConfig) -> None:
        self.config = config
        plain = task_config(config)
        self.run = Run(folder(config, "hydra.run.dir").absolute())  # the job may change its working directory
        _check_sweeper(config)
        self.job: Job = resolve_name(kind)(plain, self.run)
        self._context = hydra_context(config)

    def is_done(self) -> bool:
        """True if there is nothing left to do; else everything is checked that can be before training.

        Raises ``RunBusyError`` if another process trains the run, ``RunError`` if it failed and ``rerun=none`` leaves
        it, and ``ConfigError`` for data that are of no use.
        """
        if not self.job.is_main_process:
            return False
        self.run.raise_if_locked()
        if is_settled(self.run, self.job.config):
            status = self.run.status
            if status.state == "failed":
                reason = f"failed: {status.error}; rerun=none leaves it, without that it is resumed"
                raise RunError(str(self.run.shown_path), reason=reason)
            return True
        starting_point(self.job)
        self.job.inspect()
        make_writable(self.run.shown_path)
        return False

    def execute(self) -> bool:
        """Execute the job in the surroundings that Hydra's node of the config asks for. Returns True on rank 0.

        Raises whatever training raises, and ``ConfigError`` for surroundings that cannot be had.
        """
        if self.job.is_main_process and (warning := lacks_locks(self.run.shown_path)):
            warn(warning)
        failure: list[Exception] = []  # Hydra would add a line of its own to what it raises

        def task(_: DictConfig) -> bool:
            try:
                return execute(self.job, sources(self.config))
            except Exception as error:
                failure.append(error)
            return False

        try:
            ended = run_job(task, self.config, "hydra.run.dir", None, self._context)
        except (HydraException, TypeError, ValueError) as error:  # before the task
            raise ConfigError("hydra", reason=str(error)) from error
        if failure:
            raise failure[0]
        return bool(ended.return_value)


def _check_sweeper(config: DictConfig) -> None:
    """Raise ``ConfigError`` for a search that was asked for by name, and of which one run would come."""
    if config.hydra.mode != RunMode.MULTIRUN and "hydra/sweeper=search" in config.hydra.overrides.hydra:
        reason = "belongs to a sweep, which needs -m, or sparse_ae.sweep"
        raise ConfigError("hydra/sweeper", "search", reason)
