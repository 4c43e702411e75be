"""MLflow logger: a run of MLflow for each run."""

import logging
import math
import os
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from sparse_ae.config.errors import UserError
from sparse_ae.lock import hold
from sparse_ae.loggers.base import RunLogger, require
from sparse_ae.run.directory import Run


class MLflow(RunLogger):
    """Metrics, options, images and warnings in MLflow, by Lightning's ``MLFlowLogger``.

    A resumed run continues its run of MLflow, which cannot take back what was logged after the checkpoint: metrics of
    those steps are there already, and are not logged again.
    """

    draws = True

    def __init__(self, *, run: Run, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        """``experiment`` is the name of MLflow's; None: that of the folder that the run is in. ``tracking_uri`` is a
        server or database; None: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in that folder.
        """
        super().__init__(run=run)
        require("mlflow")
        self.folder = run.path.absolute().parent
        self.experiment_name = experiment or self.folder.name
        self._asked = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self.tracking_uri = self._asked or f"sqlite:///{self.folder / 'mlflow.db'}"
        self._run_id: str | None = None
        self._logged: dict[str, int] = {}

    @cached_property
    def _inner(self) -> MLFlowLogger:
        """Lightning's logger of a run of MLflow that has begun. Raises ``UserError`` if there is no place for one."""
        # Two runs of a sweep would make the tables of a new database at once.
        guard = nullcontext() if self._asked else hold(self.folder / ".mlflow.lock", wait=math.inf)
        try:
            with guard:
                return self._begun()
        except Exception as error:  # MLflow's, a database's or the network's
            raise UserError("logger.mlflow.tracking_uri", self.tracking_uri, f"cannot be used ({error})") from error

    def _begun(self) -> MLFlowLogger:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table that it makes
        client = MlflowClient(self.tracking_uri)
        if client.get_experiment_by_name(self.experiment_name) is None:
            place = None if self._asked else (self.folder / "mlartifacts").as_uri()
            try:
                client.create_experiment(self.experiment_name, place)
            except MlflowException as error:  # another run of the sweep may have been faster
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        inner = MLFlowLogger(
            self.experiment_name, run_name=self.run.path.name, tracking_uri=self.tracking_uri, run_id=self._run_id
        )
        self._run_id = inner.run_id
        return inner

    @property
    def experiment(self) -> Any:
        """MLflow's client."""
        return self._inner.experiment

    @property
    def watch(self) -> tuple[str, ...]:
        return ("mlflow", "ui", "--backend-store-uri", self.tracking_uri)

    def begin(self, options: Mapping[str, Any]) -> None:
        self._inner.log_hyperparams({name: option for name, option in options.items() if option is not None})

    def state_dict(self) -> dict[str, Any]:
        """Identifier of the run of MLflow."""
        return {"run_id": self._inner.run_id}

    def resume(self, state: Mapping[str, Any]) -> None:
        self._run_id = state["run_id"]
        client = self.experiment
        for name in client.get_run(self._run_id).data.metrics:
            self._logged[name] = max(metric.step for metric in client.get_metric_history(self._run_id, name))
        client.update_run(self._run_id, status="RUNNING")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        new = {name: value for name, value in metrics.items() if (step or 0) > self._logged.get(name, -1)}
        if new:
            self._inner.log_metrics(new, step)

    def finalize(self, status: str) -> None:
        """Mark a run that failed; the test of another one is still to come."""
        if status != "success" and "_inner" in self.__dict__:
            self._inner.finalize(status)

    @rank_zero_only
    def finish(self) -> None:
        self._inner.finalize("success")

    def add_image(self, tag: str, image: Tensor, step: int) -> None:
        pixels = image.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        self.experiment.log_image(self._inner.run_id, pixels, key=tag, step=step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.experiment.log_text(self._inner.run_id, text, f"{tag}.txt")
