"""What is timed, and how often."""

import time

import pytest

from sparse_ae.timing import median_seconds


def test_the_first_call_does_not_count() -> None:
    naps = iter([0.3, 0.0, 0.0, 0.0])
    assert median_seconds(lambda: time.sleep(next(naps)), repeats=3) < 0.15
    assert next(naps, None) is None


@pytest.mark.parametrize(("enough", "calls"), [(0.001, 1), (0.03, 2)])
def test_what_takes_long_is_repeated_less(enough: float, calls: int) -> None:
    done = []

    def work() -> None:
        done.append(time.sleep(0.02))

    assert median_seconds(work, repeats=5, enough=enough) >= 0.02
    assert len(done) == calls
