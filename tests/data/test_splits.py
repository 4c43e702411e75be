"""Division of a file's rows into splits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.splits import draw, n_rows


@given(st.integers(3, 200), st.integers(0, 99), st.data())
def test_every_row_is_in_one_split(n: int, seed: int, data: st.DataObject) -> None:
    val = data.draw(st.integers(0, n - 1))
    test = data.draw(st.integers(0, n - 1 - val))
    parts = draw(n, val, test, seed)
    assert [len(part) for part in parts] == [n - val - test, val, test]
    assert torch.cat(list(parts)).sort().values.tolist() == list(range(n))
    assert all(torch.equal(a, b) for a, b in zip(parts, draw(n, val, test, seed), strict=True))


@given(st.lists(st.integers(0, 9), min_size=30, max_size=90), st.integers(0, 99))
def test_groups_stay_whole(groups: list[int], seed: int) -> None:
    n = len(groups)
    try:
        parts = draw(n, 3, 4, seed, torch.tensor(groups))
    except ConfigError as error:
        assert error.key == "split_by"  # noqa: PT017
        return
    assert torch.cat(list(parts)).sort().values.tolist() == list(range(n))
    assert len(parts.val) >= 3
    assert len(parts.test) >= 4
    names = [{groups[row] for row in part.tolist()} for part in parts]
    assert sum(map(len, names)) == len(set(groups))


def test_other_seeds_draw_other_rows() -> None:
    assert not torch.equal(draw(100, 10, 10, 0).test, draw(100, 10, 10, 1).test)


def test_one_group_leaves_nothing_to_train_on() -> None:
    with pytest.raises(ConfigError, match="1 groups that stay whole leave no training rows"):
        draw(10, 2, 2, 0, torch.zeros(10))


def test_sizes_are_numbers_or_shares() -> None:
    assert [n_rows(size, 1000) for size in (0, 7, 0.25, 1e-9)] == [0, 7, 250, 1]
