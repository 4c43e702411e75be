"""Truncated codes against loops over samples, and on degenerate codes."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from sparse_ae.analysis import Subject, truncation
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import log_spaced, ratio, stratified, units_needed
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of

OPTIONS = {"n_samples": 1000, "random_draws": 2, "n_images": 3}


def _subject(z: Tensor, label: Tensor | None = None) -> Subject:
    generator = torch.Generator().manual_seed(2)
    subject = subject_of(z, torch.randn(z.shape[1], 16, generator=generator), label=label)
    train = torch.rand(50, 16, generator=generator)
    subject.sample = subject.sample._replace(train_rows=lambda: train)
    return subject


def _codes() -> Tensor:
    """Of either sign, one unit dead, one sample all 0; at most 7 of 9 are not 0."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(40, 9, generator=generator)
    z = z * (z.abs() > 0.3)
    z[:, 4], z[:, 8], z[5] = 0, 0, 0
    return z


def _truncated(z: np.ndarray, key: np.ndarray, m: int) -> np.ndarray:
    """The m codes != 0 of each sample with the largest key, by sorting in Python."""
    kept = np.zeros_like(z)
    for b in range(len(z)):
        units = sorted((i for i in range(z.shape[1]) if z[b, i] != 0), key=lambda i: -key[b, i])[:m]
        kept[b, units] = z[b, units]
    return kept


def test_curves_against_loops() -> None:
    z, label = _codes(), torch.arange(40) % 3
    subject = _subject(z, label)
    result = truncation.analyse(subject, **OPTIONS)
    x, atoms = subject.x.double().numpy(), subject.atoms.double().numpy()
    variance = ((x - subject.sample.train_rows().double().numpy().mean(axis=0)) ** 2).sum()
    codes = z.double().numpy()
    full = codes @ atoms
    without = [np.delete(codes, i, axis=1) @ np.delete(atoms, i, axis=0) for i in range(9)]
    importance = np.array([((x_hat - x) ** 2).mean() - ((full - x) ** 2).mean() for x_hat in without])
    keys = [np.abs(codes), -np.abs(codes), np.broadcast_to(importance, codes.shape)]
    classifier = NearestCentroid().fit(x, label.numpy())
    kept = result.arrays["kept"].tolist()
    assert kept == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert result.arrays["orders"].tolist()[:3] == ["largest first", "smallest first", "most important unit first"]
    for order, key in enumerate(keys):
        x_hat = [_truncated(codes, key, m) @ atoms for m in kept]
        mse = [((image - x) ** 2).mean() for image in x_hat]
        fvu = [((image - x) ** 2).sum() / variance for image in x_hat]
        same = [(classifier.predict(image) == classifier.predict(full)).mean() for image in x_hat]
        np.testing.assert_allclose(result.arrays["mse"][order], mse, rtol=1e-5)
        np.testing.assert_allclose(result.arrays["fvu"][order], fvu, rtol=1e-5)
        np.testing.assert_allclose(result.arrays["consistency"][order], same)
    np.testing.assert_allclose(result.arrays["fvu"][:, [0, -1]], [[fvu[0], fvu[-1]]] * 4, rtol=1e-5)
    assert result.numbers["samples"] == 40
    assert result.numbers["mse_full"] == pytest.approx(mse[-1], rel=1e-5)
    assert result.numbers["fvu_full"] == pytest.approx(fvu[-1], rel=1e-5)
    assert result.numbers["fvu_empty"] == pytest.approx(fvu[0], rel=1e-5)


def test_codes_are_put_in_order_and_ties_stay_in_that_of_their_units() -> None:
    codes = Codes.of([torch.tensor([[0.0, 2, -3, 2], [0, 0, 1, 0]])]).compact()
    largest, smallest = (truncation.in_order(codes, sign * codes.value.abs()) for sign in (1, -1))
    assert largest.atom.tolist() == [[2, 1, 3], [2, 0, 0]]
    assert largest.value.tolist() == [[-3, 2, 2], [1, 0, 0]]
    assert smallest.atom.tolist() == [[1, 3, 2], [2, 0, 0]]


def _needed(tried: list[int], error: list[float], share: float) -> int | None:
    """``error`` is what each number of units from 0 on leaves of 10; only ``tried`` is known beforehand."""
    left = torch.tensor(error)
    return units_needed(tried, left[tried], 10, share, lambda numbers: left[list(numbers)])


def test_units_needed_by_hand() -> None:
    falling = [10.0, 6, 2, 0.5, 0]
    for tried in ([0, 4], [0, 2, 4], [0, 1, 2, 3, 4]):
        assert _needed(tried, falling, 0.4) == 1
        assert _needed(tried, falling, 0.5) == 2
        assert _needed(tried, falling, 0.9) == 3
        assert _needed(tried, falling, 0.99) == 4
    there_and_back = [10.0, 1, 12, 0]  # explains 9, then less than the mean image, then all
    assert _needed([0, 2, 3], there_and_back, 0.5) == 3
    assert _needed([0, 1, 2], [10.0, 1, 5], 1.0) == 1  # better with less
    assert _needed([0, 1], [3.0, 3], 0.9) == 0
    assert _needed([0, 1], [5.0, 10], 0.9) is None
    assert _needed([0, 1], [5.0, 11], 0.9) is None


def test_units_needed_overall_and_by_class() -> None:
    """Images are their codes: one pixel is on in class 0, two pixels of which one is faint in class 1."""
    z = torch.zeros(8, 16)
    z[:, 0], z[4:, 1] = 1.0, 0.3
    x = z + 1e-3 * torch.arange(8)[:, None] * (torch.arange(16) == 9)
    subject = subject_of(z, torch.eye(16), x=x, label=torch.arange(8) // 4)
    subject.sample = subject.sample._replace(train_rows=lambda: torch.zeros(2, 16))
    result = truncation.analyse(subject, **OPTIONS)
    assert result.numbers["by_class"]["0"] == {f"{p}_percent": 1 for p in (90, 95, 99)}
    assert result.numbers["by_class"]["1"] == {"90_percent": 1, "95_percent": 2, "99_percent": 2}  # 1 of 1.09
    assert result.numbers["units_for_90_percent"] == result.numbers["by_order"]["largest first"]["90_percent"]
    assert result.numbers["by_order"]["smallest first"]["90_percent"] > result.numbers["units_for_90_percent"]


def test_between_the_numbers_tried_every_number_of_codes_counts() -> None:
    """64 codes that fall off slowly: more than the numbers on the logarithmic scale, and an answer between them."""
    z = torch.linspace(1, 0.5, 64).repeat(4, 1)
    subject = subject_of(z, torch.eye(64), x=z + 1e-4 * torch.arange(4)[:, None], label=torch.zeros(4).long())
    subject.sample = subject.sample._replace(shape=(1, 8, 8), train_rows=lambda: torch.zeros(2, 64))
    share = z[0].square().cumsum(dim=0) / z[0].square().sum()
    numbers = truncation.analyse(subject, **OPTIONS).numbers
    for percent in (90, 95, 99):
        assert numbers[f"units_for_{percent}_percent"] == int((share < percent / 100 - 1e-3).sum()) + 1


def test_the_mean_training_image_has_an_fvu_of_1() -> None:
    subject = _subject(torch.zeros(20, 3))
    subject.coder.decode = lambda z: subject.sample.train_rows().mean(dim=0).expand(len(z), -1)  # type: ignore[method-assign]
    numbers = truncation.analyse(subject, **OPTIONS).numbers
    assert numbers["fvu_full"] == pytest.approx(1)


def test_samples_are_of_each_class_its_share() -> None:
    label = torch.tensor([2] * 60 + [0] * 30 + [7] * 10)
    index = stratified(label, 20)
    assert torch.bincount(label[index]).tolist() == [6, 0, 12, 0, 0, 0, 0, 2]
    assert len(index.unique()) == 20
    assert sorted(stratified(label, 1000).tolist()) == list(range(100))
    result = truncation.analyse(_subject(torch.rand(100, 4), label), **{**OPTIONS, "n_samples": 20})
    assert result.numbers["samples"] == 20
    assert list(result.numbers["by_class"]) == ["0", "2", "7"]


def test_log_spaced() -> None:
    assert log_spaced(0, 5) == [0]
    assert log_spaced(1, 5) == [0, 1]
    assert log_spaced(1000, 4) == [0, 1, 10, 100, 1000]
    assert ratio(1, 0) is None


def test_figures() -> None:
    label = torch.arange(40) % 3
    result = truncation.analyse(_subject(_codes(), label), **OPTIONS)
    for axes in result.figures["truncation"].axes:
        names = [line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")]
        assert names[:4] == ["largest first", "most important unit first", "random", "smallest first"]
    (bars,) = result.figures["classes"].axes
    assert [text.get_text() for text in bars.get_xticklabels()] == ["all", "0", "1", "2"]
    assert len(bars.patches) == 12
    (strip,) = result.figures["strip"].axes
    names = [text.get_text() for text in strip.texts]
    assert names[:3] == ["class 0", "class 1", "class 2"]
    assert names[3:6] == ["input", "m = 0", "m = 1"]
    assert names[-1] == "all codes"
    first = stratified(label, 3)[0]
    x = _subject(_codes()).x
    np.testing.assert_array_equal(strip.images[0].get_array()[:4, :4], x[first].reshape(4, 4))


@pytest.mark.parametrize(
    "z",
    [torch.zeros(10, 4), torch.ones(10, 1), torch.full((1, 3), 0.5), -torch.rand(20, 3), torch.eye(5, 1024)],
    ids=["dead", "one", "single", "negative", "many"],
)
def test_degenerate_codes(z: Tensor) -> None:
    result = truncation.analyse(_subject(z), **OPTIONS)
    json.dumps(result.numbers, allow_nan=False)
    for figure in result.figures.values():
        assert to_png(figure, dpi=30).startswith(b"\x89PNG")


def test_no_variance_and_nothing_explained_are_none() -> None:
    subject = subject_of(torch.ones(3, 2), torch.ones(2, 16), x=torch.zeros(3, 16))
    subject.sample = subject.sample._replace(train_rows=lambda: torch.zeros(4, 16))
    result: Any = truncation.analyse(subject, **OPTIONS)
    assert result.numbers["fvu_full"] is None
    assert result.numbers["units_for_90_percent"] is None
    assert {text.get_text() for text in result.figures["classes"].axes[0].texts} == {"n/a"}
    for figure in result.figures.values():
        assert to_png(figure, dpi=30).startswith(b"\x89PNG")


def test_deterministic() -> None:
    first, second = (truncation.analyse(_subject(_codes()), **OPTIONS) for _ in range(2))
    np.testing.assert_array_equal(first.arrays["mse"], second.arrays["mse"])
    assert first.numbers == second.numbers
