"""One file per method: its activation and its loss terms together."""

from sparse_ae.sparsity.base import Decoder, Forward, Sparsity
from sparse_ae.sparsity.kl import KL
from sparse_ae.sparsity.l1 import L1
from sparse_ae.sparsity.none import NoSparsity

__all__ = ["KL", "L1", "Decoder", "Forward", "NoSparsity", "Sparsity"]
