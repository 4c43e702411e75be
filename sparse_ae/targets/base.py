"""What every target keeps to."""

from abc import ABC
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from sparse_ae.sparsity import Forward, Sparsity


class Verdict(NamedTuple):
    """Whether a run has the sparsity that was asked for."""

    measure: str
    wanted: float
    reached: float
    """On the validation split, at the end."""
    met: bool
    reason: str
    """One line; empty if it is met."""


class Target(nn.Module, ABC):
    """Writes to one coefficient of a ``Sparsity``. State is in buffers; ``observe_`` is vmap-safe."""

    needs_an_end = False
    """Whether ``schedule_`` needs to know how many steps there are."""
    measure: str = "l0"
    """The metric that it is about."""

    def arguments_for(self, method: type[Sparsity], latent_dim: int) -> dict[str, Any]:
        """What the target sets among the method's own arguments, such as k."""
        return {}

    def begin_(self, sparsity: Sparsity, threshold: float) -> None:
        """Take over before the first step; a code is active above ``threshold``. Raises ``ValueError`` if there is
        nothing to steer, or it is steered already.
        """

    def schedule_(self, sparsity: Sparsity, step: int, total_steps: float) -> None:
        """Before each step, of ``total_steps``."""

    def observe_(self, sparsity: Sparsity, forward: Forward, recon: Tensor, terms: Mapping[str, Tensor]) -> None:
        """After each training batch, with its reconstruction error and the method's raw terms."""

    def validated_(self, sparsity: Sparsity, metrics: Mapping[str, float]) -> None:
        """After each validation, with its ``val/...`` metrics."""

    @property
    def stuck(self) -> str | None:
        """Why the target cannot be met, if that is clear already."""
        return None

    @property
    def points(self) -> list[dict[str, float]]:
        """What was measured along the way, where that is what the run is for."""
        return []

    def verdict(self, metrics: Mapping[str, float]) -> Verdict | None:
        """How it ended, from the last validation's metrics; None if nothing was asked for."""
        return None


def steered_coefficient(sparsity: Sparsity) -> Tensor:
    """The coefficient to write to. Raises ``ValueError`` unless it is free to be steered."""
    if sparsity.steered is None:
        raise ValueError(
            f"target: {type(sparsity).__name__} has no coefficient to steer (allowed: a penalty, or target=none)"
        )
    if sparsity.warmup_steps:
        raise ValueError(
            f"sparsity.warmup_steps={sparsity.warmup_steps}: the target steers the coefficient (allowed: 0)"
        )
    return sparsity.coefficients[sparsity.steered]
