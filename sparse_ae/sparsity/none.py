"""No sparsity: the dense autoencoder that sparse ones are compared with."""

from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.functional import Reduction
from sparse_ae.sparsity.base import Sparsity


class NoSparsity(Sparsity):
    """z = pre, no penalty. With a linear network this is PCA's subspace."""

    def __init__(self, *, latent_dim: PositiveInt, reduction: Reduction) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)

    def activate(self, pre: Tensor) -> Tensor:
        return pre
