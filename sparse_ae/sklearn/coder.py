"""Estimator for classical dictionary learning and sparse coding."""

from typing import Any

import numpy.typing as npt
from pydantic import PositiveInt
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sparse_ae.coders import DictionaryCoder, Learner
from sparse_ae.config.errors import ConfigError
from sparse_ae.config.groups import targets
from sparse_ae.data.scale import Moments
from sparse_ae.sklearn.base import BORROWED, FLOATS, ROWS, CodingTransformer, as_tensor
from sparse_ae.sklearn.parameters import check_taken, chosen_class, default, made, parameters, renamed, seed_of

_OF_MADE_DATA = {"true_atoms"}
_ON_ATOMS = {"omp": "sparse_ae.coders.OMP", "fista": "sparse_ae.coders.L1Coder"}
"""Methods that code on given atoms, which the command line takes from a run."""


class SparseCoder(CodingTransformer):
    """x_hat = z @ components_ + offset: atoms learned by ``method``, or given, and codes searched for each sample.

    There is no ``partial_fit``: K-SVD replaces atoms that its data do not use, and a batch uses few.

    Parameters
    ----------
    n_components : int, default=None
        Number of atoms to learn, N. None for as many as there are features.
    method : str or Learner class, default="ksvd"
        ``ksvd``, ``online_dl``, ``pca``, ``data_atoms`` or ``random_atoms`` learn the atoms, as ``coder=`` does on the
        command line, around the mean of the data. ``omp`` and ``fista`` code on ``dictionary``, around 0: by orthogonal
        matching pursuit; by L1.
    k : int, default=None
        Number of non-zero codes per sample. None for the method's own, 32, or N if that is less.
    dictionary : array-like of shape (N, D), default=None
        Given atoms, instead of ``n_components``.
    method_options : dict, default=None
        Further arguments of the method's constructor, such as ``{"epochs": 10}`` of ``ksvd`` or ``{"penalty": 0.1}`` of
        ``fista``.
    sparse_output : bool, default=False
        True for codes as a CSR matrix.
    random_state : int or numpy.random.RandomState, default=None
        Seed of the learned atoms.

    Attributes
    ----------
    components_ : ndarray of shape (N, D)
        Atoms, one per row, in the unit of the data and of its type, float32 or float64.
    model_ : DictionaryCoder
        The coder on these atoms, a module of torch.
    mean_ : ndarray of shape (D,)
        Mean of the training data.
    n_features_in_ : int
        Number of features, D.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if ``fit`` was given a data frame.

    Raises
    ------
    ValueError
        In ``fit``, for parameters and data that the method refuses.

    Examples
    --------
    >>> import numpy as np
    >>> coder = SparseCoder(method="omp", dictionary=np.eye(3), k=1)
    >>> coder.fit_transform([[1.0, -4.0, 2.0]])
    array([[ 0., -4.,  0.]])
    """

    def __init__(
        self,
        n_components: PositiveInt | None = None,
        *,
        method: str | type[Learner] = "ksvd",
        k: PositiveInt | None = None,
        dictionary: Any = None,
        method_options: dict[str, Any] | None = None,
        sparse_output: bool = False,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.k = k
        self.dictionary = dictionary
        self.method_options = method_options
        self.sparse_output = sparse_output
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "SparseCoder":
        """Learn the atoms from ``X (n, D)``, or check that the given ones fit it. ``y`` is ignored."""
        x = as_tensor(validate_data(self, X, dtype=FLOATS, ensure_min_samples=2 if self.dictionary is None else 1))
        with renamed():
            self.model_: DictionaryCoder = self._learner(x.numpy().dtype).fit(x)
        with BORROWED:
            self.mean_ = Moments.of(x.split(ROWS)).mean.numpy()
        return self

    def _learner(self, dtype: npt.DTypeLike) -> Learner:
        """The method, as the parameters ask for it; given atoms are of ``dtype``."""
        chosen = parameters(self)
        method, k, dictionary = chosen["method"], chosen["k"], chosen["dictionary"]
        methods = {name: kind for name, kind in (targets("coder") | _ON_ATOMS).items() if name not in _OF_MADE_DATA}
        kind, options = chosen_class("method", methods, method), chosen["method_options"] or {}
        codes_on_given = issubclass(kind, DictionaryCoder)
        if codes_on_given and dictionary is None:
            raise ConfigError("dictionary", reason=f"method={method} codes on given atoms", expected="atoms (N, D)")
        if dictionary is not None and not codes_on_given:
            expected = f"None, or method={' or '.join(_ON_ATOMS)}"
            raise ConfigError("dictionary", reason=f"method={method} learns atoms", expected=expected)
        supplied: dict[str, Any]
        if codes_on_given:
            atoms = check_array(dictionary, dtype=dtype, input_name="dictionary", copy=True)
            own, supplied = {"k": k}, {"dictionary": as_tensor(atoms)}
        else:
            n, usual = chosen["n_components"] or self.n_features_in_, default(kind, "n_nonzero")
            own = {"n_nonzero": min(usual, n) if k is None and usual is not None else k}
            supplied = {"latent_dim": n}
            if default(kind, "seed") is not None:
                supplied["seed"] = seed_of(chosen["random_state"])
        check_taken(kind, own)
        learner: Learner = made("method", kind, own | options, **supplied)
        return learner
