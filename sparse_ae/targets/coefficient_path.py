"""Coefficient path: one run through many coefficients, for a quick front of error against sparsity."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import PositiveFloat

from sparse_ae.config.errors import ConfigError
from sparse_ae.sparsity import Sparsity
from sparse_ae.targets.base import Target


class CoefficientPath(Target):
    """coefficient(t) = c first (last / first)^(t / T), c the config's: from dense to sparse, evenly in its logarithm.

    Each epoch's validation is a point of the front. The model spends little time at each coefficient, so a run at a
    fixed one may do better.
    """

    def __init__(self, *, first: PositiveFloat = 0.01, last: PositiveFloat = 30.0) -> None:
        super().__init__()
        if last <= first:
            raise ConfigError("last", f"{last:g}", "the path rises", f"above first={first:g}")
        self.first, self.last = first, last
        self._points: list[dict[str, float]] = []

    @property
    def needs_an_end(self) -> bool:
        return True

    def attach_(self, sparsity: Sparsity, threshold: float) -> None:
        super().attach_(sparsity, threshold)
        coefficient = self.coefficient
        if not float(coefficient) > 0:
            raise ConfigError("sparsity.coefficient", f"{float(coefficient):g}", "the path multiplies it", "above 0")
        coefficient.mul_(self.first)

    @torch.no_grad()
    def on_step_start_(self, step: int, total_steps: float) -> None:
        if math.isinf(total_steps):
            raise ConfigError("trainer.max_epochs", -1, "a path needs an end of training", "a number of epochs")
        factor = self.first * (self.last / self.first) ** min(1.0, step / max(1.0, total_steps - 1))
        steered = self.sparsity.traits.steered
        assert steered is not None
        self.coefficient.copy_(self.sparsity.full_coefficients[steered] * factor)

    def on_validation_end_(self, metrics: Mapping[str, float]) -> None:
        coefficient = float(self.coefficient)
        validated = {name: v for name, v in metrics.items() if name.startswith("val/") and math.isfinite(v)}
        if not any(point["coefficient"] == coefficient for point in self._points):  # else validated once more
            self._points.append({"coefficient": coefficient, **validated})

    @property
    def points(self) -> list[dict[str, float]]:
        return list(self._points)

    def get_extra_state(self) -> dict[str, Any]:
        """Points so far, saved with each checkpoint."""
        return {"points": self.points}

    def set_extra_state(self, state: Any) -> None:
        """Restore the points that ``get_extra_state`` saved."""
        self._points = list(state["points"])
