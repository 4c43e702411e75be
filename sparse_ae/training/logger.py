"""TensorBoard logger that writes straight into the run directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch.utils.tensorboard import SummaryWriter


class RunLogger(TensorBoardLogger):
    """Event files at ``folder/events.out.tfevents.*``, and the run's row in TensorBoard's HParams tab."""

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)
        self._folder = folder

    def save(self) -> None:
        """Write no ``hparams.yaml``: the run has ``.hydra/config.yaml``."""

    def finalize(self, status: str) -> None:
        """Flush and keep the file open: fit and test of one run write into the same one."""
        self.experiment.flush()

    @rank_zero_only
    def begin(self, options: Mapping[str, Any]) -> None:
        """Open the run's row in the HParams tab, with ``options`` as its hyperparameters; None stays blank.

        No experiment summary is written: TensorBoard would take the first one that it finds for all runs. Without any,
        it offers the options of all runs, first those that differ, and every scalar as a metric.
        """
        start = SessionStartInfo()
        for name, option in options.items():
            if isinstance(option, bool):  # first: to Python it is a number too
                start.hparams[name].bool_value = option
            elif isinstance(option, int | float):
                start.hparams[name].number_value = option
            elif option is not None:
                start.hparams[name].string_value = str(option)
        self._write(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))

    @rank_zero_only
    def finish(self) -> None:
        """Close the HParams row and the file."""
        end = HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS))
        self._write(metadata.SESSION_END_INFO_TAG, end)
        self.experiment.close()

    def sizes(self) -> dict[str, int]:
        """Flush, and return the size in bytes of each event file on disk."""
        self.experiment.flush()
        files = sorted(self._folder.glob("events.out.tfevents.*"))
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return {path.name: path.stat().st_size for path in files}

    def _write(self, tag: str, content: HParamsPluginData) -> None:
        described = metadata.create_summary_metadata(content)
        value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
        writer: SummaryWriter = self.experiment
        writer._get_file_writer().add_summary(Summary(value=[value]))
