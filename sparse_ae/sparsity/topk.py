"""TopK: the k largest pre-activations of each sample."""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction, keep_largest
from sparse_ae.sparsity.base import Sparsity, check_units, whole_units


class TopK(Sparsity):
    """z = ReLU(TopK_k(pre)): at most k units of each sample are active; no penalty.

    Exactly k are kept, of equal ones too, and those that are not positive become codes of 0. ``signed`` keeps the k
    largest by magnitude, z = TopK_k(|pre|) sign(pre), as orthogonal matching pursuit would.
    Source: Gao et al., "Scaling and evaluating sparse autoencoders", arXiv 2406.04093. Its auxiliary loss for dead
    units is ``dead=auxk``.

    >>> pre = torch.tensor([[-3.0, 2.0, 1.0]])
    >>> TopK(k=1, latent_dim=3).activate(pre)
    tensor([[0., 2., 0.]])
    >>> TopK(k=1, signed=True, latent_dim=3).activate(pre)
    tensor([[-3.,  0.,  0.]])
    """

    def __init__(
        self,
        *,
        k: int = 32,
        signed: bool = False,
        reduction: Reduction = "mean",
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.k = check_units("k", k, latent_dim)
        self.signed = signed

    def activate(self, pre: Tensor) -> Tensor:
        return keep_largest(pre, self.k, by=pre.abs()) if self.signed else torch.relu(keep_largest(pre, self.k))

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        return {"k": whole_units(l0, latent_dim)}
