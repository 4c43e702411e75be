"""No sparsity: a dense autoencoder, for comparison."""

from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Sparsity


class NoSparsity(Sparsity):
    """z = pre, without a penalty. With a linear network this learns PCA's subspace.

    >>> import torch
    >>> NoSparsity(latent_dim=2).activate(torch.tensor([[-1.0, 2.0]]))
    tensor([[-1.,  2.]])
    """

    def __init__(self, *, reduction: Reduction = "mean", latent_dim: PositiveInt = 128) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)

    def activate(self, pre: Tensor) -> Tensor:
        return pre
