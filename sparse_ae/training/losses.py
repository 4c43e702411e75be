"""Losses of recent steps, gathered on the device until they are logged."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sparse_ae.config.errors import UserError
from sparse_ae.sparsity import Loss


class NonFiniteLossError(UserError):
    """Training diverged: the loss or a weight is NaN or infinite."""


def loss_values(loss: Loss) -> Tensor:
    """Loss, reconstruction error and terms ``(names,)``; of a stack of R models ``(names, R)``."""
    return torch.stack([loss.loss, loss.recon, *loss.terms.values()]).detach()


class StepLosses:
    """Loss, reconstruction error and terms of every step since the last ``take_means``. Only that and ``check`` wait
    for the device.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        self.names = ["loss", "recon", *terms]
        self._values: list[Tensor] = []
        self._steps: list[int] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, values: Tensor, step: int) -> None:
        """Append the ``loss_values (names)`` of a batch that belongs to optimizer step ``step``."""
        self._values.append(values)
        self._steps.append(step)

    def check(self) -> None:
        """Raise ``NonFiniteLossError`` if a value is NaN or infinite."""
        if self._values:
            self._checked()

    def take_means(self) -> dict[str, float]:
        """Return the means by name and forget the values. Raises ``NonFiniteLossError`` as ``check`` does."""
        means = self._checked().mean(dim=0).tolist()
        self._values, self._steps = [], []
        return dict(zip(self.names, means, strict=True))

    def _checked(self) -> Tensor:
        """Values on the CPU, ``(steps, names)``."""
        values = torch.stack(self._values).cpu()
        if not values.isfinite().all():
            row = int((~values.isfinite()).nonzero()[0, 0])
            # The loss is the sum of the others, so it is bad whenever one of them is: name the term.
            bad = [name for name, ok in zip(self.names, values[row].isfinite().tolist(), strict=True) if not ok]
            term = bad[min(1, len(bad) - 1)]
            value = values[row, self.names.index(term)]
            raise NonFiniteLossError("", reason=f"{term} became {value} at step {self._steps[row]}")
        return values

    def state_dict(self) -> dict[str, Any]:
        """Values that are not logged yet, for a checkpoint."""
        return {"values": torch.stack(self._values).cpu() if self._values else None, "steps": list(self._steps)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what ``state_dict`` saved."""
        self._values = [] if state["values"] is None else list(state["values"].to(device))
        self._steps = list(state["steps"])
