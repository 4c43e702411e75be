"""Classical coders behind the ``Coder`` protocol, and what learns their dictionaries."""

from sparse_ae.coders.base import DictionaryCoder, IterativeLearner, Learner
from sparse_ae.coders.baselines import DataAtoms, RandomAtoms
from sparse_ae.coders.ista import L1Coder, fista, ista
from sparse_ae.coders.ksvd import KSVD
from sparse_ae.coders.omp import OMP, orthogonal_matching_pursuit
from sparse_ae.coders.online_dl import OnlineDictionaryLearning
from sparse_ae.coders.pca import PCA, Projection

__all__ = [
    "KSVD",
    "OMP",
    "PCA",
    "DataAtoms",
    "DictionaryCoder",
    "IterativeLearner",
    "L1Coder",
    "Learner",
    "OnlineDictionaryLearning",
    "Projection",
    "RandomAtoms",
    "fista",
    "ista",
    "orthogonal_matching_pursuit",
]
