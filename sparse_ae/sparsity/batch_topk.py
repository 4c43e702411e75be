"""The k B largest pre-activations of a batch of B samples, which share them out among themselves."""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, update_mean_
from sparse_ae.sparsity.base import Forward, Sparsity, check_units, whole_units

_FORGETS = 0.01
"""The weight of the newest batch in the running mean of the threshold, once there were a hundred."""


class BatchTopK(Sparsity):
    """In training z = ReLU(pre) where it is among the k B largest of the batch, else 0: k units a sample on average.

    A sample's code must not depend on its batch, so ``activate`` keeps what exceeds a threshold, the running mean of
    the smallest activation that training kept. Before the first batch the threshold is 0, and the code ReLU(pre).
    Source: Bussmann et al., "BatchTopK sparse autoencoders", arXiv 2412.06410.
    """

    couples_samples = True
    threshold: Tensor
    batches: Tensor

    def __init__(self, *, k: int, reduction: Reduction, latent_dim: PositiveInt) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.k = check_units("k", k, latent_dim)
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("batches", torch.tensor(0))

    def activate(self, pre: Tensor) -> Tensor:
        return torch.relu(pre) * (pre >= self.threshold)

    def activate_batch(self, pre: Tensor) -> Tensor:
        smallest = pre.flatten().topk(self.k * pre.shape[0], sorted=False).values.amin(dim=-1)
        return torch.relu(pre) * (pre >= smallest)

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        smallest = torch.where(forward.z > 0, forward.z, torch.inf).amin(dim=(-2, -1))
        update_mean_(self.threshold, smallest, self.batches, _FORGETS)

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        return {"k": whole_units(l0, latent_dim)}
