"""Early stopping: the end of training once a metric no longer improves."""

from typing import Literal

from lightning.pytorch import callbacks
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from pydantic import NonNegativeFloat, PositiveInt


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's ``EarlyStopping``: ends training after ``patience`` checks in a row without a better ``monitor``.

    Better is lower or, with ``mode="max"``, higher, by more than ``min_delta``. Training also ends once ``monitor`` is
    beyond ``stopping_threshold``, or not a number. A check follows each validation; of a metric ``train/...``, each
    epoch.

    >>> EarlyStopping(monitor="val/fvu", patience=5).state_key
    "EarlyStopping{'monitor': 'val/fvu', 'mode': 'min'}"
    """

    def __init__(
        self,
        *,
        monitor: str = "val/mse",
        mode: Literal["min", "max"] = "min",
        patience: PositiveInt = 3,
        min_delta: NonNegativeFloat = 0.0,
        stopping_threshold: float | None = None,
    ) -> None:
        super().__init__(
            monitor,
            min_delta,
            patience,
            mode=mode,
            stopping_threshold=stopping_threshold,
            check_on_train_epoch_end=monitor.startswith("train/"),
        )

    @property
    def reason(self) -> str | None:
        """Reason why it ended training; None if it did not."""
        best = float(self.best_score)
        reasons = {
            EarlyStoppingReason.PATIENCE_EXHAUSTED: f"has not been better than {best:.4g} in {self.wait_count} checks",
            EarlyStoppingReason.STOPPING_THRESHOLD: f"has passed stopping_threshold={self.stopping_threshold}",
            EarlyStoppingReason.NON_FINITE_METRIC: "is not a finite number",
        }
        return f"{self.monitor} {text}" if (text := reasons.get(self.stopping_reason)) else None
