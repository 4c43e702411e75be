"""Knee of a front of two quantities to be minimised."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

_ROUNDING = 1e-9


def knee(x: Array, y: Array) -> int | None:
    """Return the index of the point at which a front bends most towards the origin; None if no point lies below the
    chord between its ends.

    Beyond the knee, in either direction, a gain in one quantity costs more of the other. It is the point farthest below
    the chord, with log x and log y each scaled to [0, 1]. ``x (F,), y (F,)`` are positive and non-dominated, in any
    order. Source: the difference curve of Satopää et al., "Finding a 'Kneedle' in a Haystack", 2011, without its
    smoothing.
    """
    if len(np.unique(np.stack([x, y]), axis=1).T) < 3:
        return None
    u, v = (_scaled(np.log(values)) for values in (x, y))
    below = 1 - u - v  # sqrt 2 times the distance from the chord, which goes from (0, 1) to (1, 0)
    lowest = int(below.argmax())
    return lowest if below[lowest] > _ROUNDING else None


def _scaled(values: Array) -> Array:
    low, high = values.min(), values.max()
    scaled: Array = (values - low) / (high - low)
    return scaled
