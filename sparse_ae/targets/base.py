"""Base class of targets."""

from abc import ABC
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sparse_ae.config.build import locate
from sparse_ae.config.errors import ConfigError
from sparse_ae.sparsity import Part, Sparsity


class Verdict(NamedTuple):
    """Outcome of a run that was asked for a sparsity."""

    measure: str
    """Metric that the target is about."""
    wanted: float
    """Value that was asked for."""
    reached: float
    """Value on the validation split at the end."""
    met: bool
    """True if ``reached`` is within the tolerance of ``wanted``."""
    reason: str
    """Reason for a miss, one line; empty if the target is met."""


class Target(Part, ABC):
    """Controls one coefficient of a ``Sparsity``: ``attach_`` it first, then call the hooks of ``Part``."""

    measure: str = "l0"
    """Metric that the target is about."""

    def sparsity_spec(self, spec: Mapping[str, Any], latent_dim: int) -> dict[str, Any]:
        """Return ``spec``, a sparsity method's, with the arguments that the target sets, such as k."""
        method: Any = locate(spec["_target_"], "sparsity")
        return {**spec, **self.arguments_for(method, latent_dim)}

    def arguments_for(self, method: type[Sparsity], latent_dim: int) -> dict[str, Any]:
        """Arguments of the method's constructor that the target sets, such as k; empty if it sets none."""
        return {}

    def attach_(self, sparsity: Sparsity, threshold: float) -> None:
        """Take control of ``sparsity`` before the first step; a code is active above ``threshold``.

        Raises ``ConfigError`` if there is nothing to steer, or if it is steered already.
        """
        self._attached = (sparsity,)  # in a tuple, as no submodule: its state belongs to the model
        self.threshold = threshold

    @property
    def sparsity(self) -> Sparsity:
        """Method that the target is attached to."""
        return self._attached[0]

    @property
    def coefficient(self) -> Tensor:
        """Scalar buffer that the target steers. Raises ``ConfigError`` unless there is one, free to be steered."""
        sparsity = self.sparsity
        if sparsity.traits.steered is None:
            reason = f"{type(sparsity).__name__} has no coefficient to steer"
            raise ConfigError("target", reason=reason, expected="a penalty as sparsity=, or target=none")
        if sparsity.warmup_steps:
            raise ConfigError("sparsity.warmup_steps", sparsity.warmup_steps, "the target steers the coefficient", "0")
        return sparsity.coefficients[sparsity.traits.steered]

    @property
    def stuck(self) -> str | None:
        """Reason why the target cannot be met; None while it may be."""
        return None

    @property
    def points(self) -> list[dict[str, float]]:
        """Measurements along the way, for a target that records them."""
        return []

    def verdict(self, metrics: Mapping[str, float]) -> Verdict | None:
        """Judge the last validation's ``metrics``; None if no sparsity was asked for."""
        return None
