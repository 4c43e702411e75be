"""Front and knee against hand-worked cases and a search by brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_ae.plotting.fronts import non_dominated
from sparse_ae.reporting.front import knee

POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=25)


def _arrays(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(points, dtype=float).T
    return x, y


def test_non_dominated_by_hand() -> None:
    points = [(1, 9), (2, 5), (2, 6), (3, 5), (4, 1), (4, 1), (9, 9), (math.nan, 0), (0, math.nan)]
    best = non_dominated(*_arrays(points))
    assert best.tolist() == [True, True, False, False, True, True, False, False, False]


@given(POINTS)
def test_non_dominated_by_brute_force(points: list[tuple[float, float]]) -> None:
    expected = [not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    assert non_dominated(*_arrays(points)).tolist() == expected


def test_knee_by_hand() -> None:
    # In decades from (0, 2) to (2, 0): the chord is u + v = 1, and (1, 0.2) lies at 0.5 + 0.1, 0.4 short of it.
    assert knee(np.array([1, 10, 100.0]), np.array([100, 10**0.2, 1])) == 1


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, 1)],
        [(1, 2), (2, 1)],
        [(1, 2), (1, 2), (2, 1), (2, 1)],
        [(1, 100), (10, 10), (100, 1)],
        [(1, 100), (10, 10**1.8), (100, 1)],
    ],
    ids=["none", "one", "two", "two twice", "straight", "bent outward"],
)
def test_fronts_without_a_knee(points: list[tuple[float, float]]) -> None:
    x, y = _arrays(points) if points else (np.zeros(0), np.zeros(0))
    assert knee(x, y) is None


@given(POINTS)
def test_knee_by_brute_force(points: list[tuple[float, float]]) -> None:
    """The distance of a point from a line through two others, as geometry has it."""
    front = sorted({p for p in points if not any(a <= p[0] and b <= p[1] and (a, b) != p for a, b in points)})
    found = knee(*_arrays(front))
    if len(front) < 3:
        assert found is None
        return
    logs = [(math.log(x), math.log(y)) for x, y in front]
    (left, top), (right, bottom) = logs[0], logs[-1]
    scaled = [((u - left) / (right - left), (v - bottom) / (top - bottom)) for u, v in logs]
    (x0, y0), (x1, y1) = scaled[0], scaled[-1]
    # Positive on the side of (0, 0), by the sign of the cross product.
    below = [((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / math.hypot(x1 - x0, y1 - y0) for x, y in scaled]
    if found is None:
        assert max(below) < 1e-8
    else:
        assert below[found] == pytest.approx(max(below))
