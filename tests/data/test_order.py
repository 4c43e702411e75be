"""Order, coverage, mixing and rank split of an epoch, for any size."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_ae.data.order import EpochSampler
from sparse_ae.functional import epoch_order

SIZES = st.integers(1, 300)
WINDOWS = st.integers(1, 100)
BLOCKS = st.integers(1, 30)
SEEDS = st.integers(0, 2**31)
EPOCHS = st.integers(0, 1000)
WORLDS = st.integers(1, 5)


@given(SIZES, SEEDS, EPOCHS)
def test_order_is_a_permutation_and_a_pure_function(n: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed, epoch)
    assert sorted(order.tolist()) == list(range(n))
    torch.manual_seed(epoch)  # whatever else draws random numbers does not matter
    assert torch.equal(order, epoch_order(n, seed, epoch))


def test_order_differs_between_epochs_and_seeds() -> None:
    orders = [tuple(epoch_order(1000, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


@given(SIZES, SEEDS, EPOCHS, WORLDS, st.none() | WINDOWS, st.none() | BLOCKS)
def test_training_shares_are_disjoint_and_equally_long(
    n: int, seed: int, epoch: int, world: int, window: int | None, block: int | None
) -> None:
    shares = []
    for rank in range(world):
        sampler = EpochSampler(n, seed=seed, shuffle=True, rank=rank, world_size=world, window=window, block=block)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == n // world
    together = [index for share in shares for index in share]
    assert len(set(together)) == len(together) > n - world


@given(SIZES, WORLDS, st.none() | WINDOWS, st.none() | BLOCKS)
def test_evaluation_shares_are_in_order_and_cover_everything_exactly_once(
    n: int, world: int, window: int | None, block: int | None
) -> None:
    for rank in range(world):
        sampler = EpochSampler(n, seed=0, shuffle=False, rank=rank, world_size=world, window=window, block=block)
        assert list(sampler) == list(range(rank, n, world))
        assert len(sampler) == len(range(rank, n, world))


@given(SIZES, SEEDS, EPOCHS, WINDOWS, BLOCKS)
def test_windows_are_bounded_about_equal_and_hold_their_rows(
    n: int, seed: int, epoch: int, window: int, block: int
) -> None:
    sampler = EpochSampler(n, seed=seed, shuffle=True, window=window, block=block)
    sampler.set_epoch(epoch)
    windows = list(sampler.windows())
    sizes = [sum(stop - start for start, stop in w.blocks) for w in windows]
    assert sum(sizes) == n
    assert max(sizes) <= sampler.largest_window <= window or len(windows) == 1
    assert max(sizes) - min(sizes) < 2 * min(block, window), "one block more, and the file's last one is shorter"
    assert len(windows) == sampler.n_windows
    for w, size in zip(windows, sizes, strict=True):
        assert all(before[1] <= after[0] for before, after in pairwise(w.blocks)), "read in ascending order"
        assert sorted(w.order.tolist()) == list(range(size))
        assert w.positions.tolist() == [place for start, stop in w.blocks for place in range(start, stop)]


@given(SIZES, SEEDS, EPOCHS, WORLDS, WINDOWS, BLOCKS, st.data())
def test_a_resumed_epoch_is_the_rest_of_the_whole_one(
    n: int, seed: int, epoch: int, world: int, window: int, block: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, world - 1))

    def sampler(seen: int) -> EpochSampler:
        options = {"rank": rank, "world_size": world, "window": window, "block": block}
        return EpochSampler(n, seed=seed, shuffle=True, resume_at=(epoch, seen), **options)

    whole = sampler(0)
    seen = data.draw(st.integers(0, len(whole)))
    resumed = sampler(seen)
    assert len(resumed) == len(whole)
    assert list(resumed) == list(whole)[seen:]
    whole.set_epoch(epoch + 1)
    resumed.set_epoch(epoch + 1)
    assert list(resumed) == list(whole), "only that one epoch"


@given(SIZES, SEEDS, EPOCHS, BLOCKS, st.integers(0, 50))
def test_the_order_of_one_window_is_that_of_resident_data(
    n: int, seed: int, epoch: int, block: int, spare: int
) -> None:
    sampler = EpochSampler(n, seed=seed, shuffle=True, window=n + spare, block=block)
    sampler.set_epoch(epoch)
    assert torch.equal(sampler.indices(), epoch_order(n, seed, epoch))


def test_orders_of_several_windows_differ_between_epochs_seeds_and_windows() -> None:
    orders = set()
    for seed in range(3):
        sampler = EpochSampler(1000, seed=seed, shuffle=True, window=250, block=5)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler.indices().tolist()))
            inside = [tuple(window.order.tolist()) for window in sampler.windows()]
            blocks = [tuple(window.blocks) for window in sampler.windows()]
            assert len(set(inside)) == len(set(blocks)) == 4
            assert torch.equal(sampler.indices(), sampler.indices())
    assert len(orders) == 9


def _unmixed(order: Tensor) -> np.ndarray:
    """Correlations of place with row, and of a row with those 1, 2 and 5 places after it. Rows are their own ranks."""
    rows = order.numpy()
    pairs = [(np.arange(len(rows)), rows), *((rows[:-lag], rows[lag:]) for lag in (1, 2, 5))]
    return np.array([abs(np.corrcoef(*pair)[0, 1]) for pair in pairs])


@pytest.mark.parametrize("seed", range(3))
def test_windows_mix_as_a_full_permutation_does(seed: int) -> None:
    """Against 200 full permutations. Blocks that stay whole, and windows that stay where they are, would be seen."""
    n, window, block = 4000, 1000, 4
    generator = np.random.default_rng(seed)
    null = np.stack([_unmixed(torch.from_numpy(generator.permutation(n))) for _ in range(200)]).max(axis=0)
    sampler = EpochSampler(n, seed=seed, shuffle=True, window=window, block=block)
    assert (_unmixed(sampler.indices()) <= null).all()
    blocks_only = torch.cat([torch.arange(*b) for w in sampler.windows() for b in w.blocks])
    windows_only = torch.cat([w.order + start for w, start in zip(sampler.windows(), range(0, n, window), strict=True)])
    assert (_unmixed(blocks_only)[1:] > null[1:]).any()
    assert (_unmixed(windows_only) > null).all()


def test_a_window_holds_other_rows_in_every_epoch() -> None:
    sampler = EpochSampler(2000, seed=0, shuffle=True, window=1000, block=1)
    firsts = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        firsts.append(set(next(sampler.windows()).positions.tolist()))
    shared = [len(a & b) for a, b in combinations(firsts, 2)]  # two random halves share 500 rows, standard deviation 11
    assert all(450 < count < 550 for count in shared)
