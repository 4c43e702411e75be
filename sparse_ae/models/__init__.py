"""Networks, and the autoencoder that joins one to a sparsity method."""

from sparse_ae.models.autoencoder import SparseAutoencoder, build_autoencoder
from sparse_ae.models.linear import Linear
from sparse_ae.models.lista import LISTA
from sparse_ae.models.matching_pursuit import MatchingPursuit
from sparse_ae.models.mlp import MLP
from sparse_ae.models.mlp_encoder import MLPEncoder
from sparse_ae.models.network import Network

__all__ = [
    "LISTA",
    "MLP",
    "Linear",
    "MLPEncoder",
    "MatchingPursuit",
    "Network",
    "SparseAutoencoder",
    "build_autoencoder",
]
