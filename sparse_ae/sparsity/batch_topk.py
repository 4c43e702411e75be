"""BatchTopK: the k B largest pre-activations of a batch of B samples."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, keep_largest
from sparse_ae.sparsity.base import Loss, Sparsity, Traits, check_units, whole_units
from sparse_ae.sparsity.threshold import Threshold


class BatchTopK(Sparsity):
    """z = ReLU(pre) where it is among the k B largest of the batch, else 0: k units per sample on average.

    Exactly k B are kept, of equal ones too. Those that are not positive become codes of 0, as on blank images.

    A sample's code must not depend on its batch. ``activate`` therefore keeps every activation above a ``Threshold``
    that k units of a sample exceed on average; before the first batch it is 0, and the code ReLU(pre). The source uses
    the mean of the smallest activations kept, which converges to the same.
    Source: Bussmann et al., "BatchTopK sparse autoencoders", arXiv 2412.06410.

    >>> pre = torch.tensor([[3.0, 2.0, 1.0], [0.5, 0.1, 0.0]])
    >>> BatchTopK(k=1, latent_dim=3).activate_batch(pre)  # 2 of 6
    tensor([[3., 2., 0.],
            [0., 0., 0.]])
    """

    traits = Traits(couples_samples=True, learns_threshold=True)

    def __init__(self, *, k: int = 32, reduction: Reduction = "mean", latent_dim: PositiveInt = 128) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.k = check_units("k", k, latent_dim)
        self.threshold = Threshold()

    def activate(self, pre: Tensor) -> Tensor:
        return pre * self.threshold.passes(pre)

    def activate_batch(self, pre: Tensor) -> Tensor:
        return torch.relu(keep_largest(pre.flatten(-2), self.k * pre.shape[-2]).reshape(pre.shape))

    @torch.no_grad()
    def on_backward_end_(self, loss: Loss) -> None:
        self.threshold.follow_(loss.forward.pre, loss.forward.z, self.k / self.latent_dim, dims=(-2, -1))

    @torch.no_grad()
    def on_validation_end_(self, metrics: Mapping[str, float]) -> None:
        self.threshold.calibrate_(metrics["val/l0"] / self.k)

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        return {"k": whole_units(l0, latent_dim)}
