"""One run through many coefficients: a quick front of error against sparsity."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import PositiveFloat

from sparse_ae.sparsity import Sparsity
from sparse_ae.targets.base import Target, steered_coefficient


class CoefficientPath(Target):
    """coefficient(t) = c first (last / first)^(t / T), c the config's: from dense to sparse, evenly in its logarithm.

    Each epoch's validation is a point of the front. The model has had little time at each coefficient, so a
    run at a fixed one may do better.
    """

    needs_an_end = True

    def __init__(self, *, first: PositiveFloat, last: PositiveFloat) -> None:
        super().__init__()
        if last <= first:
            raise ValueError(f"last={last:g}: the path rises (allowed: above first={first:g})")
        self.first, self.last = first, last
        self._points: list[dict[str, float]] = []

    def begin_(self, sparsity: Sparsity, threshold: float) -> None:
        coefficient = steered_coefficient(sparsity)
        if not float(coefficient) > 0:
            raise ValueError(
                f"sparsity.coefficient={float(coefficient):g}: is what the path multiplies (allowed: above 0)"
            )
        coefficient.mul_(self.first)

    @torch.no_grad()
    def schedule_(self, sparsity: Sparsity, step: int, total_steps: float) -> None:
        if math.isinf(total_steps):
            raise ValueError("trainer.max_epochs=-1: a path has an end (allowed: an end to training)")
        assert sparsity.steered is not None
        factor = self.first * (self.last / self.first) ** min(1.0, step / max(1.0, total_steps - 1))
        sparsity.coefficients[sparsity.steered].fill_(sparsity.full_coefficients[sparsity.steered] * factor)

    def validated_(self, sparsity: Sparsity, metrics: Mapping[str, float]) -> None:
        assert sparsity.steered is not None
        coefficient = float(sparsity.coefficients[sparsity.steered])
        validated = {name: v for name, v in metrics.items() if name.startswith("val/") and math.isfinite(v)}
        if not any(point["coefficient"] == coefficient for point in self._points):  # else validated once more
            self._points.append({"coefficient": coefficient, **validated})

    @property
    def points(self) -> list[dict[str, float]]:
        return list(self._points)

    def get_extra_state(self) -> dict[str, Any]:
        """The points go into each checkpoint."""
        return {"points": self.points}

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` saved."""
        self._points = list(state["points"])
