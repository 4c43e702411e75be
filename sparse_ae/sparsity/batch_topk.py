"""The k B largest pre-activations of a batch of B samples, which share them out among themselves."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Forward, Sparsity, check_units, whole_units
from sparse_ae.sparsity.threshold import Threshold


class BatchTopK(Sparsity):
    """In training z = ReLU(pre) where it is among the k B largest of the batch, else 0: k units a sample on average.

    A sample's code must not depend on its batch, so ``activate`` keeps what passes a ``Threshold`` that k units of a
    sample pass on average. Before the first batch it is 0, and the code ReLU(pre). The source takes the mean of the
    smallest activations kept, which ends at the same. Source: Bussmann et al., "BatchTopK sparse autoencoders", arXiv
    2412.06410.
    """

    couples_samples = True

    def __init__(self, *, k: int, reduction: Reduction, latent_dim: PositiveInt) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.k = check_units("k", k, latent_dim)
        self.threshold = Threshold()

    def activate(self, pre: Tensor) -> Tensor:
        return pre * self.threshold.passes(pre)

    def activate_batch(self, pre: Tensor) -> Tensor:
        smallest = pre.flatten().topk(self.k * pre.shape[0], sorted=False).values.amin(dim=-1)
        return torch.relu(pre) * (pre >= smallest)

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        self.threshold.follow_(forward.pre, forward.z, self.k / self.latent_dim, dims=(-2, -1))

    @torch.no_grad()
    def validated_(self, metrics: Mapping[str, float]) -> None:
        self.threshold.calibrate_(metrics["val/l0"] / self.k)

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        return {"k": whole_units(l0, latent_dim)}
