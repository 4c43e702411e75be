"""Probes against scikit-learn used by hand, codes whose answer is known, and bad options."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sparse_ae.analysis import Result, Subject, probe
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of

OPTIONS: dict[str, Any] = {
    "classifiers": ["logistic", "svm"],
    "labels_per_class": [5],
    "all_labels": True,
    "draws": 2,
    "c": [0.1, 10],
    "n_choose": None,
    "pool": 0,
    "references": True,
    "seed": 0,
}


class Copy:
    """The image as its own code."""

    dictionary = torch.eye(16)

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


def _images(n: int, seed: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Classes that overlap: a probe errs, but less than one that guesses."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % classes
    centres = torch.randn(classes, 16, generator=torch.Generator().manual_seed(9))
    return centres[label] + 1.5 * torch.randn(n, 16, generator=generator), label


def _subject(coder: Any, n: int = 90, *, classes: int = 3) -> Subject:
    splits = {"train": _images(n, 1, classes), "val": _images(60, 2, classes)}
    x, label = _images(300, 3, classes)
    base = subject_of(torch.zeros(len(x), 16), x=x, label=label)
    return Subject(coder, base.sample._replace(labelled=lambda split: splits[split]))


def _analyse(subject: Subject, **options: Any) -> Result:
    return probe.analyse(subject, **OPTIONS | options)


class Rectified(Copy):
    """Pixels above a threshold, which no linear map of the moved images gives."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.threshold).relu()


@pytest.mark.parametrize("threshold", [0.3, 3.2], ids=["dense codes", "sparse codes"])
@pytest.mark.parametrize("pool", [0, 1])
def test_all_labels_agree_with_scikit_learn_by_hand(pool: int, threshold: float) -> None:
    coder = Rectified(threshold)
    subject = _subject(coder)
    splits = {split: subject.sample.labelled(split)[0] for split in ("train", "val")} | {"test": subject.x}
    y, y_val = (subject.sample.labelled(split)[1] for split in ("train", "val"))

    def pooled(x: Tensor) -> Tensor:
        images, moves = x.reshape(-1, 4, 4), range(-pool, pool + 1)
        moved = torch.stack([images.roll((i, j), (1, 2)).flatten(1) for i in moves for j in moves])
        return coder.encode(moved).mean(dim=0)

    codes = {split: pooled(x) for split, x in splits.items()}
    scale = float(codes["train"].double().square().sum(dim=1).mean().sqrt())
    train, val, test = ((codes[split] / scale).numpy() for split in ("train", "val", "test"))

    def fit(c: float, x: Any, label: Tensor) -> LogisticRegression:
        return LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x, label)

    c = min([0.1, 10], key=lambda c: int((fit(c, train, y).predict(val) != y_val.numpy()).sum()))
    whole = fit(c, np.concatenate([train, val]), torch.cat([y, y_val]))
    wrong = (whole.predict(test) != subject.label.numpy()).mean()

    numbers = _analyse(subject, pool=pool).numbers
    own = numbers["representations"]["codes"]["logistic"]["all"]
    assert numbers["logistic_error"] == own["error"] == pytest.approx(wrong)
    assert own["c"] == [c]
    assert numbers["samples"] == {"train": 90, "val": 60, "test": 300}

    z = norm.ppf(0.975)  # Wilson's interval
    centre, n = (wrong + z**2 / 600) / (1 + z**2 / 300), 300
    half = z / (1 + z**2 / n) * np.sqrt(wrong * (1 - wrong) / n + z**2 / (4 * n**2))
    assert (own["low"], own["high"]) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize("threshold", [0.0, 2.0, 3.0], ids=["dense", "about the limit", "sparse"])
def test_a_representation_has_one_form_and_is_the_mean_over_moves(threshold: float) -> None:
    """Also of images that are not square and have channels, and whatever share of the codes is 0."""
    coder, shape = Rectified(threshold), (2, 5, 7)
    subject = subject_of(torch.zeros(40, 70), x=torch.randn(40, 70, generator=torch.Generator().manual_seed(0)))
    pooled = probe._pooled(Subject(coder, subject.sample).encode, 2, shape)(subject.x)
    images = subject.x.reshape(-1, *shape)
    moved = [np.roll(images.numpy(), (i, j), (2, 3)) for i in range(-2, 3) for j in range(-2, 3)]
    expected = np.mean([coder.encode(torch.from_numpy(each)).numpy().reshape(40, -1) for each in moved], axis=0)
    dense = pooled if isinstance(pooled, np.ndarray) else pooled.toarray()
    np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=1e-6)

    rows, label = subject.x, torch.arange(40) % 2
    splits = {"train": (rows, label), "val": (rows[:7].abs() * 9, label[:7]), "test": (rows[:9] * 0, label[:9])}
    data = probe._represent(probe._pooled(Subject(coder, subject.sample).encode, 0, shape), splits)
    assert type(data.train.x) is type(data.val.x) is type(data.test.x)
    assert data.train.x.dtype == data.val.x.dtype == np.float32


def test_representations_of_the_same_information_do_as_well() -> None:
    """16 codes != 0 are the pixels, and all of PCA's components are the pixels turned."""
    found = _analyse(_subject(Copy()), labels_per_class=[]).numbers["representations"]
    assert set(found) == {"codes", "PCA, 16 components", "16 random features", "pixels"}
    assert found["codes"] == found["pixels"]
    assert found["codes"]["nonzeros"] == 16
    pixels, pca = found["pixels"]["svm"]["all"], found["PCA, 16 components"]["svm"]["all"]
    assert pca["error"] == pytest.approx(
        pixels["error"], abs=0.05
    )  # but for the mean, which the intercept makes up for


def test_pca_is_matched_in_dimension_and_in_non_zeros() -> None:
    class Sparse(Copy):
        def encode(self, x: Tensor) -> Tensor:
            return torch.cat([x[:, :4], torch.zeros(len(x), 16)], dim=1)

        def decode(self, z: Tensor) -> Tensor:
            return z[:, :16]

    found = _analyse(_subject(Sparse()), all_labels=False, classifiers=["svm"]).numbers["representations"]
    assert {"PCA, 16 components", "PCA, 4 components"} < set(found)  # of 16 values there are no 20 components
    assert found["codes"]["dim"] == found["20 random features"]["dim"] == 20


def test_separable_codes_make_no_errors_and_useless_ones_guess() -> None:
    class Labels(Copy):
        def encode(self, x: Tensor) -> Tensor:
            centres = torch.randn(3, 16, generator=torch.Generator().manual_seed(9))
            return torch.eye(16)[torch.cdist(x, centres).argmin(dim=1)]

    class Constant(Copy):
        def encode(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    subject = _subject(Labels())
    nearest = float((subject.codes.rows(slice(None)).argmax(dim=1) != subject.label).double().mean())
    assert _analyse(subject).numbers["svm_error"] == pytest.approx(nearest)
    assert _analyse(_subject(Constant())).numbers["logistic_error"] == pytest.approx(2 / 3)


def test_few_labels_are_drawn_from_each_class_and_the_same_again() -> None:
    first, again = (_analyse(_subject(Copy(), n=300), labels_per_class=[2, 50]).numbers for _ in range(2))
    assert first == again
    few, many = (first["representations"]["codes"]["logistic"][n] for n in ("2", "50"))
    assert few["low"] <= few["error"] <= few["high"]
    assert len(few["c"]) == OPTIONS["draws"]
    assert many["error"] < few["error"]
    assert first["representations"]["codes"]["logistic"]["all"]["error"] <= few["error"]


def test_what_is_named_twice_is_done_once() -> None:
    subject = _subject(Copy())
    result = _analyse(subject, labels_per_class=[5, 2, 5], classifiers=["svm", "svm"], references=False)
    assert result.arrays["error"].shape == (1, 1, 3)
    assert result.numbers == _analyse(subject, labels_per_class=[2, 5], classifiers=["svm"], references=False).numbers


def test_the_test_split_chooses_nothing() -> None:
    subject = _subject(Copy())
    chosen = _analyse(subject).numbers["representations"]["pixels"]["logistic"]
    turned = Subject(Copy(), subject.sample._replace(label=(subject.label + 1) % 3))
    other = _analyse(turned).numbers["representations"]["pixels"]["logistic"]
    assert [chosen[n]["c"] for n in chosen] == [other[n]["c"] for n in other]
    assert chosen["all"]["error"] != other["all"]["error"]


def test_the_figure_is_drawn_and_no_number_is_undefined() -> None:
    result = _analyse(_subject(Copy()))
    assert to_png(result.figures["probe"]).startswith(b"\x89PNG")
    assert [axes.get_title() for axes in result.figures["probe"].axes] == ["logistic regression", "linear SVM"]
    assert np.isfinite([result.numbers["logistic_error"], result.numbers["svm_error"]]).all()


def test_draws_that_agree_have_an_interval_of_no_width() -> None:
    class Constant(Copy):
        def encode(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    result = _analyse(_subject(Constant(), classes=7, n=140), draws=3, labels_per_class=[3, 10_000])
    for n in ("3", "10000"):
        error = result.numbers["representations"]["codes"]["logistic"][n]
        assert error["low"] == pytest.approx(error["error"]) == error["high"]
    assert to_png(result.figures["probe"])


def test_few_labels_have_students_interval_over_draws() -> None:
    subject = _subject(Copy(), n=300)
    result = _analyse(subject, draws=3, labels_per_class=[2], all_labels=False, references=False, c=[1])
    (train, y), test = subject.sample.labelled("train"), subject.x
    scale = float(train.double().square().sum(dim=1).mean().sqrt())
    errors = []
    for draw in range(3):
        random = np.random.default_rng([0, 2, draw])
        few = np.concatenate([random.permutation(np.flatnonzero(y.numpy() == label))[:2] for label in range(3)])
        fitted = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit((train / scale)[few].double().numpy(), y[few])
        errors.append((fitted.predict((test / scale).double().numpy()) != subject.label.numpy()).mean())
    half = 4.302652729911275 * np.std(errors, ddof=1) / 3**0.5  # Student's t, 2 degrees of freedom
    own = result.numbers["representations"]["codes"]["logistic"]["2"]
    assert own["error"] == pytest.approx(np.mean(errors), abs=1e-9)
    assert own["high"] - own["error"] == pytest.approx(half, abs=1e-9)
    assert own["converged"]
    assert result.arrays["error"].shape == (2, 1, 1)
    assert result.arrays["error"][0, 0, 0] == own["error"]


def test_regularisation_is_chosen_with_so_many_images() -> None:
    few = _analyse(_subject(Copy(), n=300), n_choose=6, labels_per_class=[], references=False)
    assert np.isfinite(few.numbers["svm_error"])
    with pytest.raises(ValueError, match=r"^1 labels of 1 class to learn from \(expected 2 or more\)$"):
        _analyse(_subject(Copy()), n_choose=1, labels_per_class=[])


def test_what_a_probe_cannot_do_without_is_named() -> None:
    subject = _subject(Copy(), classes=1)
    with pytest.raises(ValueError, match="labels of 1 class to learn from"):
        _analyse(subject)
    with pytest.raises(ValueError, match=r"^labels_per_class=\[\]: nothing to fit \(expected a number"):
        _analyse(_subject(Copy()), labels_per_class=[], all_labels=False)
    with pytest.raises(ValueError, match=r"^pool=2: moves as far as half an image \(expected 0 to 1\)$"):
        _analyse(subject, pool=2)
    empty = (torch.zeros(0, 16), torch.zeros(0, dtype=torch.long))
    without = subject.sample._replace(labelled=lambda split: _images(90, 1) if split == "train" else empty)
    with pytest.raises(ValueError, match=r"^data\.val_size=0: no validation split.* \(expected a number above 0\)$"):
        _analyse(Subject(Copy(), without))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classifiers", [], "at least 1 item"),
        ("classifiers", ["tree"], "'logistic' or 'svm'"),
        ("labels_per_class", [0], "greater than 0"),
        ("c", [], "at least 1 item"),
        ("c", [0], "greater than 0"),
        ("draws", 1, "greater than or equal to 2"),
    ],
)
def test_bad_options_are_one_line(key: str, value: object, message: str) -> None:
    spec = {"_target_": "sparse_ae.analysis.probe.analyse", "_partial_": True, **OPTIONS, key: value}
    with pytest.raises(ConfigError, match=rf"analysis\.probe\.{key}=.*{message}"):
        build(spec, "analysis.probe")
