"""Estimator for sparse autoencoders."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from sklearn.utils.validation import validate_data
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.config.groups import targets
from sparse_ae.data.scale import Moments, Normalization
from sparse_ae.dead import DeadUnits
from sparse_ae.models import Network
from sparse_ae.models import SparseAutoencoder as Model
from sparse_ae.sklearn.base import BORROWED, FLOATS, ROWS, CodingTransformer, as_tensor
from sparse_ae.sklearn.loop import TrainingLoop
from sparse_ae.sklearn.parameters import check_taken, chosen_class, default, made, parameters, renamed, seed_of
from sparse_ae.sparsity import Sparsity
from sparse_ae.targets import SparsityTarget
from sparse_ae.training.objective import Objective


class SparseAutoencoder(CodingTransformer):
    """z = activate(encode(x)), x_hat = decode(z), trained as ``sparse-ae-train`` does, in memory and without a run.

    A number as ``random_state`` gives the weights of a run with that ``seed`` on the same rows.

    Parameters
    ----------
    n_components : int, default=128
        Number of units, N.
    method : str or Sparsity class, default="topk"
        Name of a sparsity method, as of ``sparsity=`` on the command line, or its class.
    k : int, default=None
        Number of active units per sample, of methods and networks that keep k. None for 32, or N if that is less.
    coefficient : float, default=None
        Weight of the penalty, of methods that have one. None for the method's own.
    target_l0 : float, default=None
        Number of codes != 0 per sample that training steers to, instead of ``k`` or ``coefficient``.
    method_options : dict, default=None
        Further arguments of the method's constructor, such as ``{"signed": True}``.
    network : str or Network class, default="linear"
        ``linear``, ``mlp``, ``lista``, ``mlp_encoder``, ``matching_pursuit`` with ``method="none"``, or a class.
    network_options : dict, default=None
        Arguments of its constructor, such as ``{"tied": True}``.
    dead : str or DeadUnits class, default="none"
        Treatment of dead units: ``none``, ``auxk``, ``resample``, or a class.
    normalize : str, default="rms"
        Scale that is trained on: ``none``, ``unit_interval``, ``center``, ``rms``, ``standardize`` or ``whiten``. Data
        and reconstructions keep their own unit.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    batch_size : int, default=128
        Number of rows per step.
    max_iter : int, default=100
        Number of passes over the data.
    sparse_output : bool, default=False
        True for codes as a CSR matrix.
    random_state : int or numpy.random.RandomState, default=None
        Seed of initial weights and order.

    Attributes
    ----------
    components_ : ndarray of shape (N, D)
        Atoms, one per row, in the unit of the data and of its type, float32 or float64.
    model_ : Coder
        The trained autoencoder, a module of torch.
    mean_ : ndarray of shape (D,)
        Mean of the training data.
    n_iter_ : int
        Number of passes over the data.
    loss_curve_ : list of float
        Mean loss of each pass.
    n_features_in_ : int
        Number of features, D.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if ``fit`` was given a data frame.

    Raises
    ------
    ValueError
        In ``fit``, for parameters and data that cannot be trained on, and if training diverges.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 5))
    >>> SparseAutoencoder(n_components=8, k=2, max_iter=5, random_state=0).fit_transform(x).shape
    (200, 8)
    """

    def __init__(
        self,
        n_components: PositiveInt = 128,
        *,
        method: str | type[Sparsity] = "topk",
        k: PositiveInt | None = None,
        coefficient: NonNegativeFloat | None = None,
        target_l0: PositiveFloat | None = None,
        method_options: dict[str, Any] | None = None,
        network: str | type[Network] = "linear",
        network_options: dict[str, Any] | None = None,
        dead: str | type[DeadUnits] = "none",
        normalize: Normalization = "rms",
        learning_rate: PositiveFloat = 1e-3,
        batch_size: PositiveInt = 128,
        max_iter: PositiveInt = 100,
        sparse_output: bool = False,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.k = k
        self.coefficient = coefficient
        self.target_l0 = target_l0
        self.method_options = method_options
        self.network = network
        self.network_options = network_options
        self.dead = dead
        self.normalize = normalize
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.sparse_output = sparse_output
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "SparseAutoencoder":
        """Train on ``X (n, D)`` from new weights. ``y`` is ignored."""
        x = as_tensor(validate_data(self, X, dtype=FLOATS, ensure_min_samples=2))
        loop = self._begin(x, ends=True)
        return self._keep(loop, [loop.pass_(x) for _ in range(int(self.max_iter))])

    def partial_fit(self, X: Any, y: Any = None) -> "SparseAutoencoder":
        """Go on training with one pass over ``X (n, D)``, of any number of rows. ``y`` is ignored.

        The first call initialises weights and fits the scale, so that it needs rows that differ. Raises ``ValueError``
        for a method that changes over training, and for ``dead``, which counts passes over all data, unless ``fit``
        came before.
        """
        begins = not hasattr(self, "model_")
        x = as_tensor(validate_data(self, X, dtype=FLOATS, reset=begins, ensure_min_samples=2 if begins else 1))
        if begins:
            loop, losses = self._begin(x, ends=False), []
        else:
            loop, losses = self._loop, self.loss_curve_
            loop.moments.update(x)
        return self._keep(loop, [*losses, loop.pass_(x)])

    def _keep(self, loop: TrainingLoop, losses: list[float]) -> "SparseAutoencoder":
        self._loop, self.model_ = loop, loop.objective.model
        self.loss_curve_, self.n_iter_ = losses, loop.epoch
        self.mean_ = loop.moments.mean.numpy().copy()
        return self

    def _begin(self, x: Tensor, *, ends: bool) -> TrainingLoop:
        """Loop before its first pass, initialised from ``x (n, D)``."""
        with renamed(), BORROWED:
            chosen = parameters(self)
            normalize, batch_size = chosen["normalize"], chosen["batch_size"]
            moments = Moments.of(x.split(ROWS), covariance=normalize == "whiten")
            if not moments.variance.any():
                raise ConfigError("X", reason="all rows are the same", expected="rows that differ")
            seed = seed_of(chosen["random_state"])
            with _seeded(seed):
                objective = _objective(chosen, moments).to(x.dtype)
                if not ends:
                    _check_endless(objective, chosen)
                total_steps = chosen["max_iter"] * -(-len(x) // batch_size) if ends else math.inf
                loop = TrainingLoop(
                    objective,
                    moments,
                    normalize,
                    learning_rate=chosen["learning_rate"],
                    batch_size=batch_size,
                    seed=seed,
                    total_steps=total_steps,
                )
                loop.setup_(x)
        return loop


def _objective(chosen: dict[str, Any], moments: Moments) -> Objective:
    """Objective with new weights, as ``parameters`` ask for it."""
    n = chosen["n_components"]
    kind, options = chosen_class("network", targets("model"), chosen["network"]), chosen["network_options"] or {}
    if default(kind, "output") == "auto":
        options = {"output": "sigmoid" if _in_unit_interval(chosen["normalize"], moments) else "linear", **options}
    own = {name: chosen[name] for name in ("k", "coefficient") if chosen[name] is not None}
    if kind.sets_sparsity:
        options = {"k": own.pop("k", min(default(kind, "k") or n, n)), **options}
    network = made("network", kind, options, input_dim=len(moments.mean), latent_dim=n)
    kind, target = chosen_class("method", targets("sparsity"), chosen["method"]), None
    check_taken(kind, own)
    if chosen["target_l0"] is not None:
        if own:
            raise ConfigError("target_l0", chosen["target_l0"], f"given beside {' and '.join(own)}", "one of them")
        target = SparsityTarget(value=chosen["target_l0"])
        own = target.arguments_for(kind, n)
    elif (usual := default(kind, "k")) is not None:
        own = {"k": min(usual, n), **own}
    sparsity = made("method", kind, own | (chosen["method_options"] or {}), latent_dim=n)
    dead = made("dead", chosen_class("dead", targets("dead"), chosen["dead"]), {}, latent_dim=n)
    return Objective(Model(network, sparsity), dead, target)


def _in_unit_interval(normalize: Normalization, moments: Moments) -> bool:
    """True if what is trained on lies in [0, 1]."""
    return normalize == "unit_interval" or (normalize == "none" and moments.low >= 0 and moments.high <= 1)


def _check_endless(objective: Objective, chosen: dict[str, Any]) -> None:
    """Raise ``ConfigError`` for parts that count on a number of passes over all data."""
    if objective.needs_an_end:
        reason = "changes over a share of training, of which partial_fit knows no end"
        raise ConfigError("method", chosen["method"], reason, "fit before, or another method")
    if type(objective.dead) is not DeadUnits:
        reason = "counts passes over all data, of which partial_fit sees a part"
        raise ConfigError("dead", chosen["dead"], reason, "fit before, or none")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator on the CPU as from a new one, and leave that as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
