"""A learned threshold for each unit, trained through a penalty on L0 itself."""

import math
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Coefficient, Decoder, Forward, Sparsity


class JumpReLU(Sparsity):
    """z = pre H(pre - theta), theta > 0 learned for each unit; loss = reconstruction + coefficient * L0(z).

    Neither the jump nor L0 has a gradient to theta, so both get that of a rectangle K of width e = ``bandwidth`` around
    it (straight-through): dz/dtheta = -(theta/e) K((pre - theta)/e), dH/dtheta = -(1/e) K((pre - theta)/e). To pre, z
    has its true gradient H(pre - theta).

    log theta is what is learned, at ``theta_rate`` times the optimizer's rate: the source trains a hundred times as
    many steps as suit MNIST.

    L0 is the active units per sample; ``reduction: mean`` divides it by N. ``l0_target`` penalises the distance from
    it instead: coefficient * (L0/l0_target - 1)^2.
    Source: Rajamanoharan et al., "Jumping ahead", arXiv 2407.14435.
    """

    steered: str | None = "l0"

    def __init__(
        self,
        *,
        coefficient: Coefficient,
        theta: PositiveFloat,
        theta_rate: PositiveFloat,
        bandwidth: PositiveFloat,
        l0_target: Annotated[float, Field(gt=0)] | None,
        reduction: Reduction,
        warmup_steps: NonNegativeInt,
        latent_dim: PositiveInt,
    ) -> None:
        super().__init__({"l0": coefficient}, latent_dim=latent_dim, reduction=reduction, warmup_steps=warmup_steps)
        if l0_target is not None and l0_target > latent_dim:
            raise ValueError(f"l0_target={l0_target:g}: is more than model.latent_dim={latent_dim} (allowed: up to it)")
        self.l0_target = l0_target
        if l0_target is not None:  # a larger coefficient brings L0 nearer to that, not down
            self.steered = None
        self.log_start = math.log(theta)
        self.log_theta = nn.Parameter(torch.full((latent_dim,), self.log_start))
        self.theta_rate = theta_rate
        self.register_buffer("bandwidth", torch.tensor(bandwidth))

    @property
    def learning_rates(self) -> dict[str, float]:
        return {"log_theta": self.theta_rate}

    def activate(self, pre: Tensor) -> Tensor:
        theta = self.log_theta.exp()
        return pre * (pre > theta) - theta.detach() * self._jump(pre, theta)

    def support(self, pre: Tensor, z: Tensor) -> Tensor:
        """The codes just below their threshold too, whose gradient moves it."""
        return pre > self.log_theta.exp() - self.get_buffer("bandwidth") / 2

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        theta = self.log_theta.exp()
        active = (forward.pre > theta).to(forward.pre.dtype) - self._jump(forward.pre, theta)
        l0 = active.sum(dim=-1).mean(dim=-1)
        if self.l0_target is not None:
            return {"l0": (l0 / self.l0_target - 1).square()}
        return {"l0": l0 / self.latent_dim if self.reduction == "mean" else l0}

    @torch.no_grad()
    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        self.log_theta[units] = self.log_start
        return [self.log_theta]

    def _jump(self, pre: Tensor, theta: Tensor) -> Tensor:
        """0, with gradient K((pre - theta)/e)/e to theta, ``(B, N)``."""
        bandwidth = self.get_buffer("bandwidth")
        kernel = ((pre - theta).abs() < bandwidth / 2).to(pre.dtype) / bandwidth
        return kernel.detach() * (theta - theta.detach())
