"""Batches of resident data, their augmentation and their way to a device."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.utilities import move_data_to_device

from sparse_ae.data.loader import Batch, ResidentLoader, Shift, to_unit_interval
from sparse_ae.data.order import EpochSampler
from sparse_ae.functional import epoch_order


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 2**31))
def test_loader_yields_each_row_once(n: int, batch_size: int, seed: int) -> None:
    rows = torch.arange(n, dtype=torch.float32).repeat(3, 1).T
    loader = ResidentLoader(rows, EpochSampler(n, seed=seed, shuffle=True), batch_size)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert {len(b.x) for b in batches[:-1]} <= {batch_size}
    assert torch.equal(torch.cat([b.x for b in batches]), rows[epoch_order(n, seed, 0)])


def test_an_epoch_that_was_seen_whole_has_no_batch_left() -> None:
    sampler = EpochSampler(6, seed=0, shuffle=True, resume_at=(0, 6))
    assert list(ResidentLoader(torch.eye(6), sampler, 4)) == []


def test_uint8_is_converted_as_totensor_does() -> None:
    from torchvision.transforms import ToTensor

    values = torch.arange(256, dtype=torch.uint8)
    expected = ToTensor()(values.reshape(16, 16).numpy()).reshape(-1)
    assert torch.equal(to_unit_interval(values), expected)
    floats = torch.rand(3)
    assert to_unit_interval(floats) is floats


def test_lightning_moves_a_batch_once() -> None:
    x = torch.ones(2, 3)
    moved = move_data_to_device(Batch(x, x), torch.device("meta"))
    assert isinstance(moved, Batch)
    assert moved.x.device.type == "meta"
    assert moved.target is moved.x, "one copy of the rows, not two"
    corrupted = move_data_to_device(Batch(x, x + 1), torch.device("cpu"))
    assert torch.equal(corrupted.target, x + 1)


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


def test_a_loader_that_resumes_in_the_middle_shifts_as_the_whole_epoch_did() -> None:
    images = torch.rand(50, 25)
    shift = Shift(pixels=2, epochs=None, shape=(1, 5, 5))

    def batches(seen: int) -> list[torch.Tensor]:
        sampler = EpochSampler(50, seed=3, shuffle=True, resume_at=(1, seen))
        return [batch.x for batch in ResidentLoader(images, sampler, 8, shift=shift)]

    whole, rest = batches(0), batches(24)
    assert len(rest) == len(whole) - 3
    for ours, theirs in zip(rest, whole[3:], strict=True):
        assert torch.equal(ours, theirs)
