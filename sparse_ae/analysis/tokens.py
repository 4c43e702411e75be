"""Activity of units by token: there may be 50,000 tokens, so that no array holds all units and all tokens."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]


class Vocabulary(NamedTuple):
    """The V different tokens of a sample."""

    token: Counts
    """Token ids in ascending order, ``(V,)``."""
    place: Counts
    """Token of each row, as a place in ``token``, ``(B,)``."""
    rows: Counts
    """Number of rows of each, ``(V,)``."""

    @classmethod
    def of(cls, token: Tensor) -> "Vocabulary":
        """The different tokens among those of the rows, ``(B,)``."""
        return cls(*np.unique(token.numpy(), return_inverse=True, return_counts=True))


class TopTokens(NamedTuple):
    """Of each of n units, the k tokens with the largest shares of its activity, largest first."""

    token: Counts
    """Token ids ``(n, k)``; -1 where a unit has fewer tokens."""
    share: Array
    """Share of the unit's activity that is on the token, sum_{b of token} |z_b| / sum_b |z_b|, ``(n, k)``."""
    active: Counts
    """Number of rows of the token that activate the unit, ``(n, k)``."""
    rows: Counts
    """Number of rows of the token, ``(n, k)``."""


def top_tokens(activity: Array, vocabulary: Vocabulary, k: int, threshold: float) -> TopTokens:
    """Sum up ``activity (B, n)`` >= 0 by token; a row activates a unit above ``threshold``."""
    n, size = activity.shape[1], len(vocabulary.token)
    row, unit = activity.nonzero()
    values = activity[row, unit]
    pair, of = np.unique(unit * size + vocabulary.place[row], return_inverse=True)
    total = np.bincount(of, weights=values)
    active = np.bincount(of, weights=values > threshold).astype(np.int64)
    unit, index = np.divmod(pair, size)
    order = np.lexsort((index, -total, unit))
    unit, index, total, active = unit[order], index[order], total[order], active[order]
    rank = np.arange(len(unit)) - np.searchsorted(unit, unit)
    sums = np.bincount(unit, weights=total, minlength=n)
    kept = rank < k
    place = (unit[kept], rank[kept])
    found = TopTokens(np.full((n, k), -1), np.zeros((n, k)), *np.zeros((2, n, k), dtype=np.int64))
    found.token[place] = vocabulary.token[index[kept]]
    found.share[place] = total[kept] / sums[unit[kept]]
    found.active[place] = active[kept]
    found.rows[place] = vocabulary.rows[index[kept]]
    return found
