"""Atoms that the data were made from, and not learned: the bound for those that are."""

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.coders import OMP, Learner
from sparse_ae.coders.omp import Selection
from sparse_ae.config.checked import checked
from sparse_ae.config.errors import ConfigError
from sparse_ae.data import DataModule, Synthetic


class TrueAtoms(Learner):
    """``OMP`` with ``n_nonzero`` of the atoms that ``data=synthetic`` were made from, around the true bias."""

    needs_rows = False

    @checked
    def __init__(self, n_nonzero: PositiveInt = 32, selection: Selection = "correlation") -> None:
        self.n_nonzero = n_nonzero
        self.selection: Selection = selection

    def attach(self, data: DataModule) -> None:
        """Raise ``ConfigError`` for data whose atoms nobody knows, and for fewer atoms than ``n_nonzero``."""
        if not isinstance(data, Synthetic):
            raise ConfigError("", reason="needs the true atoms, and the data have none", expected="data=synthetic")
        if self.n_nonzero > data.n_true:
            reason, expected = "more than there are atoms", f"1 to data.n_true={data.n_true}"
            raise ConfigError("n_nonzero", self.n_nonzero, reason, expected)
        self._data = data

    @property
    def units(self) -> int:
        """Number of true atoms; ``attach`` data before."""
        return self._data.n_true

    def fit(self, x: Tensor) -> OMP:
        """Return the coder, on the scale of the training data; ``x (B, D)`` tells only the type and the device.

        Its atoms have norm 1 there, like those of other learners, so that a threshold of codes means the same for all.
        """
        model, scale = self._data.model, self._data.scale
        mean = scale(model.bias)
        atoms = F.normalize(scale(model.bias + model.atoms) - mean, dim=1)
        return OMP(atoms.to(x), k=self.n_nonzero, mean=mean.to(x), selection=self.selection)
