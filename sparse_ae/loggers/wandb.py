"""Weights & Biases logger: a run of W&B for each run, offline unless asked otherwise."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from sparse_ae.config.errors import UserError
from sparse_ae.loggers.base import RunLogger, require
from sparse_ae.run.directory import Run


class WandB(RunLogger):
    """Metrics, options, images, histograms and warnings in ``<run>/wandb/``, by Lightning's ``WandbLogger``.

    A resumed run continues under the same id. Offline, each attempt has a folder of its own, and ``wandb sync`` joins
    those of one id; steps between a checkpoint and a kill are in two of them.
    """

    draws = True

    def __init__(self, *, run: Run, project: str = "sparse-ae", offline: bool = True) -> None:
        super().__init__(run=run)
        require("wandb")
        self.project = project
        self.offline = offline
        self._id: str | None = None

    @cached_property
    def _inner(self) -> WandbLogger:
        """Lightning's logger of a run of W&B that has begun. Raises ``UserError`` if W&B refuses it."""
        import wandb

        try:
            began = self._begun()
        except wandb.errors.Error as error:
            raise UserError("logger.wandb", reason=str(error)) from error
        began.define_metric("trainer/global_step")
        began.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return WandbLogger(experiment=began)

    def _begun(self) -> Any:
        import wandb

        return wandb.init(
            project=self.project,
            group=self.run.path.absolute().parent.name,
            name=self.run.path.name,
            dir=self.run.path,
            id=self._id,
            resume=None if self.offline else "allow",
            mode="offline" if self.offline else "online",
            reinit="create_new",  # a session may have one of its own
            settings=wandb.Settings(silent=True, console="off"),  # the console is the run's own
        )

    @property
    def experiment(self) -> Any:
        """W&B's run."""
        return self._inner.experiment

    @property
    def watch(self) -> tuple[str, ...]:
        return ("wandb", "sync", *sorted(map(str, (self.run.shown_path / "wandb").glob("offline-run-*"))))

    @rank_zero_only
    def begin(self, options: Mapping[str, Any]) -> None:
        self._inner.log_hyperparams(dict(options))

    def state_dict(self) -> dict[str, Any]:
        """Identifier of the run of W&B."""
        return {"id": self.experiment.id}

    def resume(self, state: Mapping[str, Any]) -> None:
        self._id = state["id"]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._inner.log_metrics(metrics, step)

    def finalize(self, status: str) -> None:
        """Close the record of a run that failed; the test of another one is still to come."""
        if status != "success" and "_inner" in self.__dict__:
            self.experiment.finish(exit_code=1)

    @rank_zero_only
    def finish(self) -> None:
        self.experiment.finish()

    def add_image(self, tag: str, image: Tensor, step: int) -> None:
        pixels = image.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        self._inner.log_image(tag, [pixels], step=step)

    def add_histogram(self, tag: str, values: Tensor, step: int) -> None:
        import wandb

        self._log({tag: wandb.Histogram(values.cpu().numpy())}, step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        self._log({tag: text}, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        self._inner.log_metrics(values, step)
