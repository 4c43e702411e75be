"""Activity of units by token: there may be 50,000 tokens, so that no array holds all units and all tokens."""

from typing import Any, NamedTuple

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
    """Tokens with the k largest shares of the activity of each of n units, largest first."""

    token: Counts
    """Token ids ``(n, k)``; -1 where a unit has fewer tokens."""
    share: Array
    """Share of the unit's activity that is on the token, sum_{b of token} |z_b| / sum_b |z_b|, ``(n, k)``."""
    active: Counts
    """Number of rows of the token that activate the unit, ``(n, k)``."""
    rows: Counts
    """Number of rows of the token, ``(n, k)``."""
    activating: Counts
    """Number of rows of any token that activate the unit, ``(n,)``."""


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
    sums, activating = (np.bincount(unit, weights=weights, minlength=n) for weights in (total, active))
    kept = rank < k
    place = (unit[kept], rank[kept])

    def table(values: npt.NDArray[Any], missing: int) -> npt.NDArray[Any]:
        filled = np.full((n, k), missing, dtype=values.dtype)
        filled[place] = values
        return filled

    return TopTokens(
        token=table(vocabulary.token[index[kept]], -1),
        share=table(total[kept] / sums[unit[kept]], 0),
        active=table(active[kept], 0),
        rows=table(vocabulary.rows[index[kept]], 0),
        activating=activating.astype(np.int64),
    )
