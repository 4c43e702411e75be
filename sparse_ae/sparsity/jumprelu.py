"""JumpReLU: a learned threshold per unit, trained through a penalty on L0 itself."""

import math
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, as_cell, as_row
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity, Traits

_FALL = 0.01
"""Share by which one call lowers a threshold."""
_DEPTH = 5.0
"""Largest fall of a threshold, as a logarithm. Its gradient shrinks with it, and would not raise a lower one again."""


class JumpReLU(Sparsity):
    """z = pre H(pre - theta), theta > 0 learned per unit; loss = reconstruction + coefficient * L0(z).

    Neither the jump nor L0 has a gradient to theta. Both get that of a rectangle K of width e = ``bandwidth`` around it
    (straight-through): dz/dtheta = -(theta/e) K((pre - theta)/e), dH/dtheta = -(1/e) K((pre - theta)/e). To pre, z has
    its true gradient H(pre - theta).

    The parameter is log theta, learned at ``theta_rate`` times the optimizer's rate: the source takes a hundred times
    as many steps as suit MNIST.

    L0 is the number of active units per sample; ``reduction: mean`` divides it by N. ``l0_target`` penalises the
    distance from it instead: coefficient * (L0/l0_target - 1)^2.
    Source: Rajamanoharan et al., "Jumping ahead", arXiv 2407.14435.

    >>> JumpReLU(theta=0.5, latent_dim=3).activate(torch.tensor([[0.4, 0.6, -1.0]])).detach()
    tensor([[0.0000, 0.6000, -0.0000]])
    """

    traits = Traits(steered="l0")
    l0_target: Tensor | None

    def __init__(
        self,
        *,
        coefficient: Coefficient = 0.01,
        theta: PositiveFloat = 0.1,
        theta_rate: PositiveFloat = 10.0,
        bandwidth: PositiveFloat = 0.1,
        l0_target: Annotated[float, Field(gt=0)] | None = None,
        reduction: Reduction = "mean",
        warmup_steps: NonNegativeInt = 0,
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({"l0": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        if l0_target is not None and l0_target > latent_dim:
            reason = f"more than model.latent_dim={latent_dim}"
            raise ConfigError("l0_target", f"{l0_target:g}", reason, f"up to {latent_dim}")
        wanted = None if l0_target is None else torch.tensor(float(l0_target))
        self.register_buffer("l0_target", wanted, persistent=False)
        if l0_target is not None:  # a larger coefficient brings L0 nearer to that, not down
            self.traits = self.traits._replace(steered=None)
        self.log_start = math.log(theta)
        self.log_theta = nn.Parameter(torch.full((latent_dim,), self.log_start))
        self.theta_rate = theta_rate
        self.register_buffer("bandwidth", torch.tensor(bandwidth))

    @property
    def learning_rates(self) -> dict[str, float]:
        return {"log_theta": self.theta_rate}

    def activate(self, pre: Tensor) -> Tensor:
        theta = as_row(self.log_theta.exp())
        return pre * (pre > theta) - theta.detach() * self._jump(pre, theta)

    def support(self, pre: Tensor, z: Tensor) -> Tensor:
        """Include codes just below their threshold, whose gradient moves it."""
        return pre > as_row(self.log_theta.exp()) - as_cell(self.get_buffer("bandwidth") / 2)

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        theta = as_row(self.log_theta.exp())
        active = (forward.pre > theta).to(forward.pre.dtype) - self._jump(forward.pre, theta)
        l0 = active.sum(dim=-1).mean(dim=-1)
        if self.l0_target is not None:
            return {"l0": (l0 / self.l0_target - 1).square()}
        return {"l0": l0 / self.latent_dim if self.reduction == "mean" else l0}

    @torch.no_grad()
    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        self.log_theta[units] = self.log_start
        return [self.log_theta]

    @torch.no_grad()
    def lower_thresholds_(self, units: Tensor) -> None:
        lower = torch.minimum(self.log_theta, (self.log_theta - _FALL).clamp_min(self.log_start - _DEPTH))
        self.log_theta.copy_(torch.where(units, lower, self.log_theta))

    def check_target(self) -> None:
        if self.l0_target is not None:
            value = f"{float(self.l0_target):g}"
            raise ConfigError("sparsity.l0_target", value, "a target already", "null, or target=none")

    def _jump(self, pre: Tensor, theta: Tensor) -> Tensor:
        """Return 0, with gradient K((pre - theta)/e)/e to theta ``(1, N)``, as ``(B, N)``."""
        bandwidth = as_cell(self.get_buffer("bandwidth"))
        kernel = ((pre - theta).abs() < bandwidth / 2).to(pre.dtype) / bandwidth
        return kernel.detach() * (theta - theta.detach())
