"""What is worth its cost: the non-dominated points of two quantities to be minimised, and the knee of their front."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

_ROUNDING = 1e-9


def non_dominated(x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """Which of the points ``(R,), (R,)`` no other is as good as in both and better in one; NaN never is."""
    as_good = (x[None] <= x[:, None]) & (y[None] <= y[:, None])
    better = (x[None] < x[:, None]) | (y[None] < y[:, None])
    known: npt.NDArray[np.bool_] = ~(np.isnan(x) | np.isnan(y))
    return known & ~(as_good & better).any(axis=1)


class Knee(NamedTuple):
    """Where a front bends."""

    at: int
    """Index into the front."""
    inward: bool
    """Whether it bends towards the origin: to go on from here, either way, costs more than it brings. Outward it is the
    other way round.
    """


def knee(x: Array, y: Array) -> Knee | None:
    """The point of a front farthest from the chord between its ends, with log x and log y each scaled to [0, 1].

    ``x (F,), y (F,)`` are positive and non-dominated, in any order. None with fewer than 3 different points or if they
    all lie on the chord. Source: the difference curve of Satopää et al., "Finding a 'Kneedle' in a Haystack", 2011,
    without its smoothing.
    """
    if len(np.unique(np.stack([x, y]), axis=1).T) < 3:
        return None
    u, v = (_scaled(np.log(values)) for values in (x, y))
    inside = 1 - u - v  # sqrt 2 times the distance from the chord, which goes from (0, 1) to (1, 0)
    farthest = int(np.abs(inside).argmax())
    if abs(inside[farthest]) < _ROUNDING:
        return None
    return Knee(farthest, inward=bool(inside[farthest] > 0))


def _scaled(values: Array) -> Array:
    low, high = values.min(), values.max()
    scaled: Array = (values - low) / (high - low)
    return scaled
