"""TensorBoard logger that writes straight into the run directory."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from sparse_ae.config.flat import flatten


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
    def begin(self, config: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """Open the HParams row: the flattened config, and the names of the scalars that are its metrics."""
        flat = flatten(config)
        shown = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in flat.items()}
        experiment, start, _ = hparams_summaries(shown, dict.fromkeys(metrics, 0.0))
        for summary in (experiment, start):
            self._file_writer().add_summary(summary)

    @rank_zero_only
    def finish(self) -> None:
        """Close the HParams row and the file."""
        _, _, end = hparams_summaries({}, {})
        self._file_writer().add_summary(end)
        self.experiment.close()

    def sizes(self) -> dict[str, int]:
        """Flush, and return the size in bytes of each event file on disk."""
        self.experiment.flush()
        files = sorted(self._folder.glob("events.out.tfevents.*"))
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return {path.name: path.stat().st_size for path in files}

    def _file_writer(self) -> Any:
        writer: SummaryWriter = self.experiment
        return writer._get_file_writer()
