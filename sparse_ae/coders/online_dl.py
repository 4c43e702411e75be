"""Online dictionary learning: scikit-learn's dictionary, coded by our OMP."""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.coders.base import Learner
from sparse_ae.coders.checks import check_nonzero
from sparse_ae.coders.omp import OMP, Selection
from sparse_ae.coders.preprocessing import centre
from sparse_ae.config.checked import checked


class OnlineDictionaryLearning(Learner):
    """min_{A, Z} 1/2 |X - Z A|^2 + penalty |Z|_1 over mini-batches, |a_i| <= 1; ``fit`` returns the ``OMP`` on A.

    Uses scikit-learn's ``MiniBatchDictionaryLearning``, which replaces unused atoms by samples.

    Source: J. Mairal, F. Bach, J. Ponce, G. Sapiro, "Online learning for matrix factorization and sparse coding", JMLR
    2010.

    >>> x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    >>> OnlineDictionaryLearning(latent_dim=6, n_nonzero=2).fit(x).encode(x).shape
    torch.Size([50, 6])
    """

    @checked
    def __init__(
        self,
        latent_dim: PositiveInt = 1024,
        n_nonzero: PositiveInt = 32,
        penalty: NonNegativeFloat = 1.0,
        epochs: PositiveInt = 1,
        batch_size: PositiveInt = 256,
        selection: Selection = "correlation",
        seed: NonNegativeInt = 42,
    ) -> None:
        check_nonzero(n_nonzero, latent_dim)
        self.latent_dim = latent_dim
        self.n_nonzero = n_nonzero
        self.penalty = penalty
        self.epochs = epochs
        self.batch_size = batch_size
        self.selection: Selection = selection
        self.seed = seed

    def fit(self, x: Tensor) -> OMP:
        """Fit to ``x (B, D)`` on the CPU. Raises ``UserError`` if x is empty or not finite."""
        # Imported here because it takes seconds.
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning

        centred, mean = centre(x)
        learner = MiniBatchDictionaryLearning(
            n_components=self.latent_dim,
            alpha=self.penalty,
            max_iter=self.epochs,
            batch_size=self.batch_size,
            fit_algorithm="cd",
            # The defaults stop after some hundred batches, when steps are small, whatever the number of epochs.
            tol=0.0,
            max_no_improvement=None,
            random_state=self.seed,
        )
        drawn = np.random.get_state()  # noqa: NPY002, its solver draws from there, for nothing and whatever the seed
        with warnings.catch_warnings():
            # The float32 codes of a batch need not converge while the dictionary is still being learned.
            warnings.simplefilter("ignore", ConvergenceWarning)
            learner.fit(centred.cpu().numpy())
        np.random.set_state(drawn)  # noqa: NPY002
        atoms = torch.from_numpy(learner.components_).to(x)
        return OMP(F.normalize(atoms, dim=1), k=self.n_nonzero, mean=mean, selection=self.selection)
