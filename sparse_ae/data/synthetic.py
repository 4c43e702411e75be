"""Data made from a known dictionary: which features are there, and where they fire, is known."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse
from torch import Tensor

from sparse_ae.config.checked import checked, with_options_of
from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.data.made import Made, Writer
from sparse_ae.data.module import DataModule
from sparse_ae.data.scale import Normalization
from sparse_ae.data.sparse_model import (
    Frequencies,
    Magnitudes,
    SparseModel,
    Truth,
    draw_atoms,
    draw_loadings,
    forest,
    probabilities,
    tree_size,
    welch_bound,
)
from sparse_ae.data.splits import Size, Split, n_rows
from sparse_ae.functional import stream_seed

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_MOST_ROWS, _MOST_DRAWS = 1024, 2**22
"""Largest number of rows that are drawn at a time, and of draws for them, one for each row and feature."""
_STREAMS = 64
"""Number of blocks of a split with a seed of their own. Torch keeps 32 bits of it: two of 100,000 would be the same."""
_ROUNDING = 1e-4
"""Largest difference between a value that is stored and the same one computed on another processor."""

Share = Annotated[float, Field(ge=0, lt=1)]
Coherence = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(gt=0, le=1)]


@with_options_of(DataModule)
class Synthetic(Made):
    """x = sum of the atoms that fire times their magnitudes + bias + noise, everything from ``seed``.

    A row depends on ``seed``, its split and its index only; more rows do not change the others. Nothing else has to be
    kept: the truth and the codes of each split are computed again from the options when they are asked for.

    - ``dim``: number of values in a row, D; ``n_true``: number of features, each with an atom of norm 1.
    - ``n``: number of training rows; ``val_size`` and ``test_size`` are numbers or shares of it.
    - ``l0``: expected number of features that fire in a row, the sum of their probabilities.
    - ``frequencies``: ``uniform``, or ``power_law`` for probabilities in proportion to rank^-``exponent``.
    - ``magnitudes``: ``constant``, ``exponential`` or ``half_normal``, of mean 1.
    - ``coherence``: largest |cosine| of two atoms; every second atom is drawn at this cosine to the one before it. None
      for random directions.
    - ``correlation``: share of ``rank`` common factors in what makes a feature fire. The normal variables that are
      compared with a bound correlate by up to this; probabilities stay as they are. Children follow their parents only.
    - ``depth``: levels of the hierarchy, 1 for none. Each feature above the last level has ``children``, which fire
      with ``child_probability`` where it fires, and nowhere else; rank is that of the tree.
    - ``noise``: standard deviation of normal noise in each value; ``bias``: norm of a constant random vector.

    Further options are those of ``DataModule``. Raises ``ConfigError`` for options that no such model has.

    >>> data = Synthetic(dim=4, n_true=6, n=300, l0=2.0)
    >>> data.prepare_data()
    >>> truth = data.truth("test", 10)
    >>> truth.atoms.shape, truth.codes.shape, round(data.true_l0, 6)
    (torch.Size([6, 4]), (10, 6), 2.0)
    """

    kind = "synthetic"
    version = 2

    @checked
    def __init__(
        self,
        *,
        dim: PositiveInt = 64,
        n_true: PositiveInt = 128,
        n: PositiveInt = 50_000,
        l0: PositiveFloat = 5.0,
        frequencies: Frequencies = "uniform",
        exponent: NonNegativeFloat = 1.0,
        magnitudes: Magnitudes = "exponential",
        coherence: Coherence | None = None,
        correlation: Share = 0.0,
        rank: PositiveInt = 4,
        depth: PositiveInt = 1,
        children: PositiveInt = 2,
        child_probability: Probability = 0.5,
        noise: NonNegativeFloat = 0.0,
        bias: NonNegativeFloat = 0.0,
        test_size: Size = 0.1,
        val_size: Size = 0.1,
        normalize: Normalization = "rms",
        **options: Any,
    ) -> None:
        self.dim, self.n_true, self.n, self.l0 = dim, n_true, n, l0
        self.frequencies, self.exponent, self.magnitudes = frequencies, exponent, magnitudes
        self.coherence, self.correlation, self.rank = coherence, correlation, rank
        self.depth, self.children, self.child_probability = depth, children, child_probability
        self.noise, self.bias = noise, bias
        self.input_shape = (dim,)
        self.test_size = test_size
        self._check_hierarchy()
        self.trees = forest(n_true, depth, children)
        self.probability = probabilities(self.trees, l0, frequencies, exponent, child_probability)
        self._check_probabilities()
        self._check_coherence()
        super().__init__(val_size=val_size, normalize=normalize, **options)

    @property
    def true_l0(self) -> float:
        """Expected number of features that fire in a row."""
        return float(self.probability.sum())

    @cached_property
    def model(self) -> SparseModel:
        """The model that rows are drawn from. Raises ``ConfigError`` for a coherence that cannot be reached."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, 0, 0))
        atoms, reached = draw_atoms(self.n_true, self.dim, self.coherence, generator)
        if self.coherence is not None and reached > self.coherence * (1 + 1e-9):
            reason = f"no {self.n_true} atoms of {self.dim} values were found that are so far apart"
            raise ConfigError("data.coherence", self.coherence, reason, f"about {_up(reached)} or more, or null")
        loading = draw_loadings(self.trees.parent < 0, self.correlation, self.rank, generator)
        bias = self.bias * F.normalize(torch.randn(self.dim, generator=generator, dtype=torch.float64), dim=0)
        model = atoms.float(), bias.float(), self.probability, self.trees, loading, self.magnitudes, self.noise
        return SparseModel(*model)

    def truth(self, name: Split, n: int) -> Truth:
        """Atoms, and codes of the first ``n`` rows of a split. Call ``prepare_data`` before.

        Raises ``UserError`` if the rows that were kept are not those that the options give here.
        """
        first = next(self._blocks(name, 1))[1]
        if not torch.allclose(self.source(name).rows.read(0, 1), first, rtol=0, atol=_ROUNDING):
            raise UserError(str(self.folder), reason="was made with another torch or processor; delete it and repeat")
        own = self.count("train") if name == "train" else n
        assert own is not None
        codes = sparse.vstack([codes for codes, _ in self._blocks(name, own)], format="csr")
        index = self._parts.train[:n].numpy() if name == "train" else slice(n)
        model = self.model
        return Truth(model.atoms, model.bias, model.probability, self.trees.parent, codes[index])

    def planned(self, name: Split) -> int:
        return self.n if name == "train" else n_rows(self._wanted[name], self.n)

    def recipe(self) -> Mapping[str, Any]:
        own: tuple[str, ...] = (
            "dim",
            "n_true",
            "n",
            "l0",
            "frequencies",
            "exponent",
            "magnitudes",
            "coherence",
            "correlation",
            "rank",
        )
        own += ("depth", "children", "child_probability", "noise", "bias", "seed")
        return {name: getattr(self, name) for name in own} | {"rows": [self.planned(name) for name in _SPLITS]}

    def make(self, write: Writer) -> list[str]:
        """Draw all rows. Raises ``ConfigError`` for a coherence that cannot be reached."""
        for name in _SPLITS:
            for _, x in self._blocks(name, self.planned(name)):
                write(name, x.numpy())
        return []

    @property
    def row_bytes(self) -> int:
        return self.dim * torch.float32.itemsize

    def describe(self) -> str:
        options = f"{self.frequencies} frequencies, {self.magnitudes} magnitudes"
        if self.depth > 1:
            options += f", {self.depth} levels"
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        return f"data: {self.n_true:,} true features of {self.dim} values, {options}, true L0 {self.true_l0:g}; {sizes}"

    def _blocks(self, name: Split, n: int) -> Iterator[tuple[sparse.csr_array, Tensor]]:
        """Codes and rows of the first ``n`` rows of a split as it is stored, block by block; at least one block."""
        size, generator = max(1, min(_MOST_ROWS, _MOST_DRAWS // self.n_true)), torch.Generator()
        for number, start in enumerate(range(0, max(n, 1), size)):
            if number < _STREAMS:  # those after continue the last one
                generator.manual_seed(stream_seed(self.seed, 1 + _SPLITS.index(name), number))
            codes = self.model.codes(size, generator)
            x = self.model.data(codes, generator)
            yield codes[: n - start], x[: n - start]

    # Checks.

    def _check_hierarchy(self) -> None:
        most = 1
        while tree_size(most + 1, self.children) <= self.n_true and most < self.depth:
            most += 1
        if self.depth > most:
            size = tree_size(most + 1, self.children)
            reason = f"a tree of {most + 1} levels with {self.children} children each has {size:,} features"
            raise ConfigError("depth", self.depth, reason, f"1 to {most} with n_true={self.n_true}")

    def _check_probabilities(self) -> None:
        if self.l0 > self.n_true:
            expected = f"up to n_true={self.n_true}"
            raise ConfigError("l0", f"{self.l0:g}", "more than there are true features", expected)
        if (largest := float(self.probability.max())) > 1 + 1e-9:
            reason = f"the most frequent feature would fire with probability {largest:.3g}"
            most = math.floor(100 * self.l0 / largest) / 100
            raise ConfigError("l0", f"{self.l0:g}", reason, f"up to {most:.10g} with these frequencies")
        self.probability = self.probability.clamp_max(1)

    def _check_coherence(self) -> None:
        if self.coherence is None:
            return
        if self.n_true == 1:
            raise ConfigError("coherence", self.coherence, "a single atom has none", "null, or a larger n_true")
        if self.coherence < (least := welch_bound(self.n_true, self.dim)):
            reason = f"no {self.n_true} atoms of {self.dim} values are so far apart"
            raise ConfigError("coherence", self.coherence, reason, f"{_up(least)} (Welch's bound) or more, or null")


def _up(coherence: float) -> str:
    """Three decimals, rounded up, so that it is allowed."""
    return f"{math.ceil(1000 * coherence) / 1000:.3f}"
