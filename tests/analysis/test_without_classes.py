"""Analyses of data without classes, of many classes, and of data in other units than pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_ae.analysis import (
    Result,
    Subject,
    amortisation,
    features,
    importance,
    probe,
    reconstructions,
    robustness,
    selectivity,
    sparsity,
    truncation,
)
from sparse_ae.analysis.base import NoClassesError
from sparse_ae.analysis.statistics import stratified
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.pictures import View
from tests.analysis.subjects import subject_of

QUICK: dict[Any, dict[str, Any]] = {amortisation: {"timed_seconds": 0.001}, robustness: {"pca": False}}


def _codes(n: int = 60) -> Tensor:
    return torch.relu(torch.randn(n, 7, generator=torch.Generator().manual_seed(1)))


def _unlabelled(z: Tensor, **changes: Any) -> Subject:
    subject = subject_of(z, **changes)
    return Subject(subject.coder, subject.sample._replace(label=None))


def _run(module: Any, subject: Subject, **options: Any) -> Result:
    result: Result = module.analyse(subject, **QUICK.get(module, {}), **options)
    return result


@pytest.mark.parametrize(
    "module", [sparsity, truncation, reconstructions, features, amortisation, importance, robustness]
)
def test_numbers_are_those_of_one_class_of_all(module: Any) -> None:
    z = _codes()
    without, one = _run(module, _unlabelled(z)), _run(module, subject_of(z))
    of_classes = {"classes", "by_class", "label", "units_for_95_percent_consistency"}
    measured = {name for name in one.numbers if "seconds" in name}
    for name in one.numbers.keys() - measured:
        if name in of_classes:
            assert without.numbers[name] is None
        else:
            assert without.numbers[name] == one.numbers[name], name
    assert one.figures.keys() - without.figures.keys() <= {"classes"}
    assert one.arrays.keys() - without.arrays.keys() <= {"label", "consistency"}
    for name, array in without.arrays.items():
        np.testing.assert_array_equal(array, one.arrays[name])


def test_samples_are_evenly_spread_without_classes() -> None:
    subject = _unlabelled(_codes(100))
    assert stratified(subject.strata, 4).tolist() == [12, 37, 62, 87]
    assert reconstructions.analyse(subject, n_images=3).numbers["index"] == [0, 1, 2]


def test_pictures_have_no_class_in_their_labels() -> None:
    z = torch.zeros(6, 3)
    z[:, 0] = torch.tensor([0.1, 0.5, 0.3, 0, 0.4, 0.2])
    subject = _unlabelled(z)
    (axes,) = features.analyse(subject, top_units=[0], top_images=3).figures["top_images"].axes
    assert [text.get_text() for text in axes.texts] == ["0: 0.67", "0.5", "0.4", "0.3"]
    (strip,) = truncation.analyse(subject, n_images=2).figures["strip"].axes
    assert strip.texts[0].get_text() == "input"
    (axes,) = truncation.analyse(subject).figures["truncation"].axes
    assert axes.get_title() == "Reconstruction"


@pytest.mark.parametrize(("module", "name"), [(selectivity, "selectivity"), (probe, "probe")])
def test_what_needs_classes_says_so(module: Any, name: str) -> None:
    with pytest.raises(NoClassesError, match=f"^data.labels: {name} needs classes, and the data have none$"):
        module.analyse(_unlabelled(_codes()))


def test_probes_need_the_classes_of_every_split() -> None:
    subject = subject_of(_codes())
    x = subject.x
    sample = subject.sample._replace(labelled=lambda split: (x, subject.label if split == "train" else None))
    with pytest.raises(NoClassesError, match=r"^data\.labels: probe needs classes"):
        probe.analyse(Subject(subject.coder, sample))
    with pytest.raises(ConfigError, match=r"^pool=1: the data are vectors, which cannot be moved \(expected 0\)$"):
        probe.analyse(Subject(subject.coder, subject.sample._replace(shape=(16,))), pool=1)


def test_many_classes_of_any_number_fit_into_a_figure() -> None:
    label = 10**9 + 7 * (torch.arange(120) % 40)
    subject = subject_of(_codes(120), label=label)
    figures = {
        "sparsity": sparsity.analyse(subject).figures["classes"],
        "truncation": truncation.analyse(subject).figures["classes"],
        **selectivity.analyse(subject, alpha=0.5, permutations=2).figures,
    }
    for name, figure in figures.items():
        assert max(figure.get_size_inches()) < 15, name
        for axes in figure.axes:
            assert max(len(axes.get_xticks()), len(axes.get_yticks())) <= 30, name
    assert figures["sparsity"].axes[0].get_yticklabels()[1].get_text() == str(int(label[2]))


class _Copy:
    """Code and reconstruction are the input."""

    dictionary = torch.eye(20)

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


def test_noise_is_relative_to_the_data_unless_these_are_pixels() -> None:
    """Then the noise of strength sigma leaves an FVU of sigma^2, whatever the unit."""
    x = torch.randn(500, 20, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 21)
    for unit, offset in ((1.0, 0.0), (250.0, 1e4)):
        own = unit * x + offset
        sample = subject_of(torch.zeros(500, 1), x=own).sample._replace(shape=(20,), train_rows=lambda own=own: own)
        numbers = robustness.analyse(Subject(_Copy(), sample), sigmas=[0, 0.3, 2], shares=[0, 1], pca=False).numbers
        assert numbers["gaussian_unit"] == pytest.approx(unit * np.sqrt(x.numpy().var(axis=0).mean()), rel=1e-4)
        fvu = [response["clean_fvu"] for response in numbers["coders"]["this coder"]["responses"]["gaussian"]]
        np.testing.assert_allclose(fvu, [0, 0.09, 4], rtol=0.05)
    view = View.of(own.numpy(), (20,))
    noisy = robustness.salt_and_pepper(own, [1], view.low, view.high)[0]
    assert noisy.unique().tolist() == pytest.approx([view.low, view.high])
    responses = numbers["coders"]["this coder"]["responses"]["salt_and_pepper"]
    assert responses[1]["clean_mse"] == pytest.approx((noisy - own).square().mean().item(), rel=1e-4)


def test_units_are_said_in_labels() -> None:
    sample = subject_of(_codes()).sample
    noise = {
        shape: robustness.analyse(Subject(_Copy16(), sample._replace(shape=shape)), pca=False).figures["robustness"]
        for shape in ((1, 4, 4), (16,))
    }
    assert noise[1, 4, 4].axes[0].get_xlabel() == "Gaussian noise: standard deviation"
    assert noise[16,].axes[0].get_xlabel() == "Gaussian noise: SD / SD of the data"
    assert noise[16,].axes[2].get_ylabel() == "MSE to the clean sample"


class _Copy16(_Copy):
    dictionary = torch.eye(16)
