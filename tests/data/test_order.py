"""Order, coverage and rank split, for any size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_ae.data.resident import EpochSampler, ResidentLoader, Shift, to_unit_interval
from sparse_ae.functional import epoch_order

SIZES = st.integers(1, 300)
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


@given(SIZES, SEEDS, EPOCHS, WORLDS)
def test_training_shares_are_disjoint_and_equally_long(n: int, seed: int, epoch: int, world: int) -> None:
    samplers = [EpochSampler(n, seed=seed, shuffle=True, rank=rank, world_size=world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(sampler) for sampler in samplers} == {n // world}
    together = [index for share in shares for index in share]
    assert len(set(together)) == len(together) > n - world


@given(SIZES, WORLDS)
def test_evaluation_shares_cover_everything_exactly_once(n: int, world: int) -> None:
    samplers = [EpochSampler(n, seed=0, shuffle=False, rank=rank, world_size=world) for rank in range(world)]
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert sorted(index for share in shares for index in share) == list(range(n))


@given(SIZES, st.integers(1, 50), SEEDS)
def test_loader_yields_each_image_once_with_its_label(n: int, batch_size: int, seed: int) -> None:
    images = torch.arange(n, dtype=torch.float32).repeat(3, 1).T
    loader = ResidentLoader(images, torch.arange(n), EpochSampler(n, seed=seed, shuffle=True), batch_size)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert {len(b.x) for b in batches[:-1]} <= {batch_size}
    labels = torch.cat([b.label for b in batches])
    assert torch.equal(torch.cat([b.x for b in batches])[:, 0], labels.float())
    assert torch.equal(labels, epoch_order(n, seed, 0))


def test_uint8_is_converted_as_totensor_does() -> None:
    from torchvision.transforms import ToTensor

    values = torch.arange(256, dtype=torch.uint8)
    expected = ToTensor()(values.reshape(16, 16).numpy()).reshape(-1)
    assert torch.equal(to_unit_interval(values), expected)
    floats = torch.rand(3)
    assert to_unit_interval(floats) is floats


def test_shifted_batches_are_a_function_of_seed_epoch_and_batch() -> None:
    shift = Shift(pixels=1, epochs=3, shape=(1, 5, 5))
    image = torch.zeros(2, 25)
    image[:, 12] = 1  # the middle
    places: dict[int, int] = {}
    for batch in range(600):
        moved = shift(image, seed=1, epoch=0, batch=batch)
        assert torch.equal(moved, shift(image, seed=1, epoch=0, batch=batch))
        place = int(moved[0].argmax())
        assert torch.equal(moved[0], moved[1])
        places[place] = places.get(place, 0) + 1
    assert set(places) == {6, 7, 8, 11, 12, 13, 16, 17, 18}
    assert places[12] == pytest.approx(300 + 300 / 9, rel=0.15)
    assert torch.equal(shift(image, seed=1, epoch=3, batch=0), image)


def test_a_loader_that_goes_on_in_the_middle_shifts_as_the_whole_epoch_did() -> None:
    images, labels = torch.rand(50, 25), torch.zeros(50, dtype=torch.int64)
    shift = Shift(pixels=2, epochs=None, shape=(1, 5, 5))

    def batches(seen: int) -> list[torch.Tensor]:
        sampler = EpochSampler(50, seed=3, shuffle=True, resume_at=(1, seen))
        sampler.set_epoch(1)
        return [batch.x for batch in ResidentLoader(images, labels, sampler, 8, shift)]

    whole, rest = batches(0), batches(24)
    assert len(rest) == len(whole) - 3
    for ours, theirs in zip(rest, whole[3:], strict=True):
        assert torch.equal(ours, theirs)
