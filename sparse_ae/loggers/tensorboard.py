"""TensorBoard logger that writes straight into the run directory."""

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sparse_ae.loggers.base import RunLogger
from sparse_ae.run.directory import Run


class TensorBoard(RunLogger, TensorBoardLogger):
    """Event files at ``<run>/events.out.tfevents.*``, and the run's row in TensorBoard's HParams tab.

    A resumed run cuts its files back to their sizes at the checkpoint, so that no step is logged twice.
    """

    keeps_curves = True
    draws = True

    def __init__(self, *, run: Run) -> None:
        TensorBoardLogger.__init__(self, save_dir=run.path, name="", version="", default_hp_metric=False)
        self.run = run

    def save(self) -> None:
        """Write no ``hparams.yaml``: the run has ``.hydra/config.yaml``."""

    def finalize(self, status: str) -> None:
        """Flush and keep the file open: fit and test of one run write into the same one."""
        self.experiment.flush()

    def begin(self, options: Mapping[str, Any]) -> None:
        """Open the run's row in the HParams tab, with ``options`` as its hyperparameters; None stays blank.

        No experiment summary is written: TensorBoard would take the first one that it finds for all runs. Without any,
        it offers the options of all runs, first those that differ, and every scalar as a metric.
        """
        self.run.rewind_events({})
        start = SessionStartInfo()
        for name, option in options.items():
            if isinstance(option, bool):  # first: to Python it is a number too
                start.hparams[name].bool_value = option
            elif isinstance(option, int | float):
                start.hparams[name].number_value = option
            elif option is not None:
                start.hparams[name].string_value = str(option)
        self._write(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))

    def state_dict(self) -> dict[str, Any]:
        """Size in bytes of each event file, as flushed to disk."""
        self.experiment.flush()
        files = self.run.event_files
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return {"sizes": {path.name: path.stat().st_size for path in files}}

    def resume(self, state: Mapping[str, Any]) -> None:
        self.run.rewind_events(state["sizes"])

    def finish(self) -> None:
        """Close the HParams row and the file."""
        end = HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS))
        self._write(metadata.SESSION_END_INFO_TAG, end)
        self.experiment.close()

    def add_image(self, tag: str, image: Tensor, step: int) -> None:
        self.experiment.add_image(tag, image, step)

    def add_histogram(self, tag: str, values: Tensor, step: int) -> None:
        self.experiment.add_histogram(tag, values, step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.experiment.add_text(tag, text, step)

    def _write(self, tag: str, content: HParamsPluginData) -> None:
        described = metadata.create_summary_metadata(content)
        value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
        writer: SummaryWriter = self.experiment
        writer._get_file_writer().add_summary(Summary(value=[value]))
