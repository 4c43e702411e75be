"""Classical coders behind the ``Coder`` protocol, and learners of their dictionaries."""

from sparse_ae.coders.base import Coder, DictionaryCoder, IterativeLearner, Learner
from sparse_ae.coders.baselines import DataAtoms, RandomAtoms
from sparse_ae.coders.ista import L1Coder
from sparse_ae.coders.ksvd import KSVD
from sparse_ae.coders.module import CoderModule
from sparse_ae.coders.omp import OMP
from sparse_ae.coders.online_dl import OnlineDictionaryLearning
from sparse_ae.coders.pca import PCA, Projection

__all__ = [
    "KSVD",
    "OMP",
    "PCA",
    "Coder",
    "CoderModule",
    "DataAtoms",
    "DictionaryCoder",
    "IterativeLearner",
    "L1Coder",
    "Learner",
    "OnlineDictionaryLearning",
    "Projection",
    "RandomAtoms",
]
