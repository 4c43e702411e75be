"""Lifetime winner-take-all: every unit keeps its strongest responses in the batch, so that few units die."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, keep_largest
from sparse_ae.sparsity.base import Loss, Sparsity, Traits
from sparse_ae.sparsity.threshold import Threshold


class WTA(Sparsity):
    """z_bi = ReLU(pre_bi) in training where it is among the ``share`` largest of unit i over the batch, else 0.

    The share is rounded up to whole samples, and that number is kept, of equal ones too. Those that are not positive
    become codes of 0.

    A single sample is coded without the constraint (``encode="relu"``, as in the source) or by a ``Threshold`` of each
    unit that ``share`` of the samples exceed (``encode="threshold"``). Those codes are as sparse as in training, or
    sparser where ``share`` of a batch is not a whole number of samples.
    Source: Makhzani and Frey, "Winner-take-all autoencoders", arXiv 1409.2752.

    >>> pre = torch.tensor([[3.0, 0.1], [1.0, 0.2]])
    >>> WTA(share=0.5, latent_dim=2).activate_batch(pre)
    tensor([[3.0000, 0.0000],
            [0.0000, 0.2000]])
    """

    traits = Traits(couples_samples=True, learns_threshold=True)

    def __init__(
        self,
        *,
        share: Annotated[float, Field(gt=0, le=1)] = 0.05,
        encode: Literal["threshold", "relu"] = "threshold",
        reduction: Reduction = "mean",
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.share = share
        self.traits = self.traits._replace(learns_threshold=encode == "threshold")
        self.threshold = Threshold(latent_dim)

    def activate(self, pre: Tensor) -> Tensor:
        return pre * self.threshold.passes(pre) if self.traits.learns_threshold else torch.relu(pre)

    def activate_batch(self, pre: Tensor) -> Tensor:
        winners = math.ceil(self.share * pre.shape[-2] - 1e-9)
        return torch.relu(keep_largest(pre, winners, dim=-2))

    @torch.no_grad()
    def on_backward_end_(self, loss: Loss) -> None:
        self.threshold.follow_(loss.forward.pre, loss.forward.z, self.share, dims=(-2,))

    @torch.no_grad()
    def on_validation_end_(self, metrics: Mapping[str, float]) -> None:
        if self.traits.learns_threshold:
            self.threshold.calibrate_(metrics["val/l0"] / (self.share * self.latent_dim))

    def reset_units_(self, units: Tensor) -> list[nn.Parameter]:
        self.threshold.value[units] = 0.0
        return []

    def check_target(self) -> None:
        if not self.traits.learns_threshold:
            reason = "a sample may have any number of active units, whatever the target"
            raise ConfigError("sparsity.encode", "relu", reason, "threshold, or target=none")

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        if not 0 < l0 <= latent_dim:
            raise ConfigError("l0", f"{l0:g}", "not a number of active units", f"up to model.latent_dim={latent_dim}")
        return {"share": l0 / latent_dim}
