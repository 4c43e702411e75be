"""Sparsity methods, one file each: an activation and its loss terms together."""

from sparse_ae.sparsity.base import Decoder, Forward, Loss, Part, Sparsity, TrainingData, Traits
from sparse_ae.sparsity.batch_topk import BatchTopK
from sparse_ae.sparsity.gated import Gated
from sparse_ae.sparsity.hoyer import Hoyer
from sparse_ae.sparsity.jumprelu import JumpReLU
from sparse_ae.sparsity.k_sparse import KSparse
from sparse_ae.sparsity.kl import KL
from sparse_ae.sparsity.l1 import L1
from sparse_ae.sparsity.matryoshka import Matryoshka
from sparse_ae.sparsity.none import NoSparsity
from sparse_ae.sparsity.topk import TopK
from sparse_ae.sparsity.wta import WTA

__all__ = [
    "KL",
    "L1",
    "WTA",
    "BatchTopK",
    "Decoder",
    "Forward",
    "Gated",
    "Hoyer",
    "JumpReLU",
    "KSparse",
    "Loss",
    "Matryoshka",
    "NoSparsity",
    "Part",
    "Sparsity",
    "TopK",
    "TrainingData",
    "Traits",
]
