"""Online dictionary learning, as scikit-learn has it, with codes by our OMP."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_ae.coders.base import Learner
from sparse_ae.coders.checks import check_count
from sparse_ae.coders.omp import OMP, Selection, check_selection
from sparse_ae.coders.preprocessing import centre


class OnlineDictionaryLearning(Learner):
    """min_{A, Z} 1/2 |X - Z A|^2 + penalty |Z|_1 over mini-batches, |a_i| <= 1; ``fit`` returns the ``OMP`` on A.

    scikit-learn's ``MiniBatchDictionaryLearning``, which replaces atoms that no sample uses by samples.

    Source: J. Mairal, F. Bach, J. Ponce, G. Sapiro, "Online learning for matrix factorization and sparse coding", JMLR
    2010.
    """

    def __init__(
        self,
        latent_dim: int,
        n_nonzero: int,
        penalty: float = 1.0,
        epochs: int = 1,
        batch_size: int = 256,
        selection: Selection = "correlation",
        seed: int = 0,
    ) -> None:
        check_count("latent_dim", latent_dim)
        check_count("n_nonzero", n_nonzero, latent_dim)
        check_count("epochs", epochs)
        check_count("batch_size", batch_size)
        check_selection(selection)
        if not 0 <= penalty < float("inf"):
            raise ValueError(f"penalty={penalty} (allowed: finite and >= 0)")
        self.latent_dim = latent_dim
        self.n_nonzero = n_nonzero
        self.penalty = penalty
        self.epochs = epochs
        self.batch_size = batch_size
        self.selection: Selection = selection
        self.seed = seed

    def fit(self, x: Tensor) -> OMP:
        """Fit to ``x (B, D)`` on the CPU. Raises ``ValueError`` if it is empty or not finite."""
        # Seconds to import, and only this needs them.
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning

        centred, mean = centre(x)
        learner = MiniBatchDictionaryLearning(
            n_components=self.latent_dim,
            alpha=self.penalty,
            max_iter=self.epochs,
            batch_size=self.batch_size,
            fit_algorithm="cd",
            # Its defaults stop it after a hundred batches or so, whatever the epochs: steps are small by then.
            tol=0.0,
            max_no_improvement=None,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # Of the codes of a batch, in float32, which need not be exact on the way to a dictionary.
            warnings.simplefilter("ignore", ConvergenceWarning)
            learner.fit(centred.cpu().numpy())
        atoms = torch.from_numpy(learner.components_).to(x)
        return OMP(F.normalize(atoms, dim=1), k=self.n_nonzero, mean=mean, selection=self.selection)
