"""TensorBoard, writing straight into the run directory."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries


class RunLogger(TensorBoardLogger):
    """Event files at ``folder/events.out.tfevents.*``, and the run's row in TensorBoard's HParams tab."""

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)

    def save(self) -> None:
        """Write no ``hparams.yaml``: the run has ``.hydra/config.yaml``."""

    def finalize(self, status: str) -> None:
        """Flush and keep the file open: fit and test of one run write into the same one."""
        self.experiment.flush()

    @rank_zero_only
    def begin(self, config: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """Open the HParams row: the flattened config, and which scalars are its metrics."""
        experiment, start, self._end = hparams_summaries(_flatten(config), dict.fromkeys(metrics, 0.0))
        for summary in (experiment, start):
            self._file_writer().add_summary(summary)

    @rank_zero_only
    def finish(self) -> None:
        """Close the HParams row and the file."""
        self._file_writer().add_summary(self._end)
        self.experiment.close()

    def _file_writer(self) -> Any:
        writer: SummaryWriter = self.experiment
        return writer._get_file_writer()


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    flat: dict[str, bool | float | str] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{key}.")
        else:
            flat[key] = value if isinstance(value, bool | int | float) else str(value)
    return flat
