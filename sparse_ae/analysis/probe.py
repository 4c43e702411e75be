"""What a linear classifier reads from the codes, and from other representations of the same images."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.analysis.statistics import stratified
from sparse_ae.coders import PCA
from sparse_ae.plotting import ProbeLine, probe_panels

Classifier = Literal["logistic", "svm"]
Encode = Callable[[Tensor], Tensor]
Features = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]

_NAMES = {"logistic": "logistic regression", "svm": "linear SVM"}
_CODES = "codes"
_TOLERANCE, _MOST_STEPS = 1e-6, 3000
"""Of logistic regression's gradient, and its steps."""


class Fitted(Protocol):
    """A classifier of scikit-learn's."""

    max_iter: int
    n_iter_: npt.NDArray[np.integer] | int

    def predict(self, x: Features) -> Classes:
        """Classes ``(B,)`` of ``x (B, F)``."""


class Split(NamedTuple):
    """One representation of one split."""

    x: Features
    """``(B, F)``."""
    label: Classes
    """``(B,)``."""


class Representation(NamedTuple):
    """One representation of all images, scaled by one number: the mean squared norm of a training row is 1."""

    train: Split
    val: Split
    test: Split
    moved: list[Features]
    """Of the training and then the validation images, one for each way they are moved."""


class Error(NamedTuple):
    """A probe's share of test images that are classified wrongly."""

    error: float
    low: float
    """Of a 95 % interval: Wilson's over test images for one probe, Student's over draws of labels for several."""
    high: float
    c: list[float]
    """The inverse strength of regularisation chosen for each draw."""
    converged: bool


def analyse(
    subject: Subject,
    *,
    classifiers: Annotated[list[Classifier], Field(min_length=1)],
    labels_per_class: list[PositiveInt],
    all_labels: bool,
    draws: Annotated[int, Field(ge=2)],
    c: Annotated[list[PositiveFloat], Field(min_length=1)],
    n_choose: PositiveInt | None,
    shift: NonNegativeInt,
    references: bool,
    seed: NonNegativeInt,
) -> Result:
    """Probes from scikit-learn, fitted to the codes, and with ``references`` to PCA with as many components as units
    and with as many as there are codes != 0, to random features max(0, W (x - mean)) of as many units, and to pixels.

    Of the inverse strengths ``c`` the one with the fewest errors on the validation split is taken, the smallest of
    those that tie. With ``all_labels`` it is chosen with probes of ``n_choose`` training images (None: all), and the
    probe then fitted to training and validation images together; for each of ``labels_per_class`` with the ``draws``
    probes that are reported, each of other images of the training split, and with all of the validation split. The
    test split chooses nothing. With ``shift``, what a probe is fitted to also comes rolled by so many pixels up, down,
    left and right.

    Numbers: ``<classifier>_error`` of the codes with all labels; ``samples`` of each split; ``representations``, of
    each ``dim``, ``nonzeros`` and, by classifier and labels per class, the ``Error``. Arrays: ``error``, ``low`` and
    ``high`` ``(classifiers, representations, K)`` for K numbers of ``labels``, and the names of the first two.
    Raises ``ValueError`` without a validation split, with no number of labels, where there are fewer than two classes
    to learn, and for a ``shift`` as large as an image.
    """
    if not labels_per_class and not all_labels:
        raise ValueError("analysis.probe.labels_per_class=[]: nothing to do (allowed: a number, or all_labels=true)")
    if shift >= (size := min(subject.sample.shape[-2:])):
        raise ValueError(f"analysis.probe.shift={shift}: is as large as an image (allowed: 0 to {size - 1})")
    classifiers, counts = list(dict.fromkeys(classifiers)), sorted(set(labels_per_class))
    splits = {
        "train": _labelled(subject, "train"),
        "val": _labelled(subject, "val"),
        "test": (subject.x, subject.label),
    }
    sizes = {split: len(label) for split, (_, label) in splits.items()}
    encoders = _encoders(subject, splits, seed) if references else {_CODES: subject.encode}
    found: dict[str, dict[str, Any]] = {}
    errors: dict[str, dict[str, dict[str, Error]]] = {}
    for name, encode in encoders.items():  # one at a time, for memory
        data = _represent(encode, splits, shift, subject.sample.shape)
        found[name] = {"dim": data.test.x.shape[1], "nonzeros": float((data.test.x != 0).sum(axis=1).mean())}
        for which in classifiers:
            own = {str(n): _few(data, which, n, draws, c, seed) for n in counts}
            if all_labels:
                own["all"] = _all(data, which, n_choose or sizes["train"], c)
            errors.setdefault(which, {})[name] = own
            found[name][which] = {labels: error._asdict() for labels, error in own.items()}
    numbers = {
        **{f"{which}_error": errors[which][_CODES]["all"].error for which in classifiers if all_labels},
        "samples": sizes,
        "representations": found,
    }
    per_class = (sizes["train"] + sizes["val"]) / len(splits["train"][1].unique())
    labels = np.array([*counts, *([per_class] if all_labels else [])], dtype=float)
    panels = {
        _NAMES[which]: {name: _line(labels, own) for name, own in by_name.items()} for which, by_name in errors.items()
    }
    intervals = "95 % intervals: over test images with all labels, over draws of labels with few"
    title = f"Linear probes: errors on {sizes['test']:,} test images\n{intervals}"
    arrays = {
        "labels": labels,
        "classifiers": np.array(list(errors)),
        "representations": np.array(list(found)),
        **{
            field: np.array([[getattr(line, field) for line in panel.values()] for panel in panels.values()])
            for field in ("error", "low", "high")
        },
    }
    return Result(numbers, {"probe": probe_panels(panels, first=_CODES, title=title)}, arrays)


def _encoders(subject: Subject, splits: Mapping[str, tuple[Tensor, Tensor]], seed: int) -> dict[str, Encode]:
    """The codes and what they are compared with, by name."""
    (train, _), (val, _) = splits["train"], splits["val"]
    codes, dim = subject.encode(val), train.shape[1]
    units, active = codes.shape[1], float((codes != 0).sum(dim=1).double().mean())
    sizes = dict.fromkeys(min(max(1, n), dim) for n in (units, round(active)))
    mean = train.mean(dim=0)
    weight = torch.randn(dim, units, generator=torch.Generator().manual_seed(seed))
    return {
        _CODES: subject.encode,
        **{f"PCA, {components} components": PCA(components).fit(train).encode for components in sizes},
        f"{units} random features": lambda x: ((x - mean) @ weight).relu(),
        "pixels": lambda x: x,
    }


def _represent(
    encode: Encode, splits: Mapping[str, tuple[Tensor, Tensor]], shift: int, shape: tuple[int, ...]
) -> Representation:
    parts = {name: Split(encode(x).numpy(), label.numpy()) for name, (x, label) in splits.items()}
    norm = np.float32(np.sqrt(np.square(parts["train"].x, dtype=np.float64).sum(axis=1).mean()) or 1.0)
    known = torch.cat([splits["train"][0], splits["val"][0]])
    ways = [(-shift, 0), (shift, 0), (0, -shift), (0, shift)] if shift else []
    images = (known.reshape(-1, *shape).roll(way, dims=(-2, -1)).flatten(1) for way in ways)
    moved = [encode(x).div(float(norm)).numpy() for x in images]
    return Representation(**{name: Split(part.x / norm, part.label) for name, part in parts.items()}, moved=moved)


def _labelled(subject: Subject, split: Literal["train", "val"]) -> tuple[Tensor, Tensor]:
    x, label = subject.sample.labelled(split)
    if len(label) == 0:
        raise ValueError(
            "data.val_size=0: a probe's regularisation is chosen on the validation split (allowed: above 0)"
        )
    return x.float(), label


def _known(data: Representation, rows: npt.NDArray[np.integer]) -> Split:
    """These rows of the training and then the validation images, and the same moved."""
    x = np.concatenate([data.train.x, data.val.x])[rows]
    label = np.concatenate([data.train.label, data.val.label])[rows]
    return Split(np.concatenate([x, *(moved[rows] for moved in data.moved)]), np.tile(label, 1 + len(data.moved)))


def _all(data: Representation, classifier: Classifier, n_choose: int, c: Sequence[float]) -> Error:
    """With all labels there are."""
    chosen = stratified(torch.from_numpy(data.train.label), n_choose).numpy()
    best, _ = _choose(classifier, _known(data, chosen), data.val, c)
    n_known, n = len(data.train.label) + len(data.val.label), len(data.test.label)
    probe = _fit(classifier, best, _known(data, np.arange(n_known)))
    wrong = int((probe.predict(data.test.x) != data.test.label).sum())
    low, high = binomtest(wrong, n).proportion_ci(method="wilson")
    return Error(wrong / n, low, high, [best], _has_converged(probe))


def _few(data: Representation, classifier: Classifier, n: int, draws: int, c: Sequence[float], seed: int) -> Error:
    """With ``n`` labels of each class, or as many as it has: the mean over the draws."""
    errors, chosen, converged = [], [], True
    for draw in range(draws):
        random = np.random.default_rng([seed, n, draw])
        few = np.concatenate(
            [random.permutation(np.flatnonzero(data.train.label == label))[:n] for label in np.unique(data.train.label)]
        )
        best, probe = _choose(classifier, _known(data, few), data.val, c)
        errors.append(float((probe.predict(data.test.x) != data.test.label).mean()))
        chosen.append(best)
        converged &= _has_converged(probe)
    mean = float(np.mean(errors))
    half = float(student.ppf(0.975, draws - 1) * np.std(errors, ddof=1) / np.sqrt(draws))
    return Error(mean, max(mean - half, 0.0), min(mean + half, 1.0), chosen, converged)


def _choose(classifier: Classifier, train: Split, val: Split, c: Sequence[float]) -> tuple[float, Fitted]:
    """Of ``c`` the value whose probe errs least on ``val``, and that probe."""
    probes = {value: _fit(classifier, value, train) for value in sorted(c)}
    best = min(probes, key=lambda value: int((probes[value].predict(val.x) != val.label).sum()))
    return best, probes[best]


def _fit(classifier: Classifier, c: float, data: Split) -> Fitted:
    if (classes := len(np.unique(data.label))) < 2:
        raise ValueError(
            f"analysis.probe: {len(data.label)} labels of {classes} class to learn from (allowed: of 2 or more)"
        )
    # The loss is a mean and rows have norm 1, so gradients are small: scikit-learn's own tolerance would stop early.
    logistic = LogisticRegression(C=c, tol=_TOLERANCE, max_iter=_MOST_STEPS)
    # liblinear penalises the intercept like a weight, unless it is scaled up.
    svm = LinearSVC(C=c, dual=False, intercept_scaling=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # results say so, of the probes that count
        probe: Fitted = (logistic if classifier == "logistic" else svm).fit(data.x, data.label)
    return probe


def _has_converged(probe: Fitted) -> bool:
    return bool(np.max(probe.n_iter_) < probe.max_iter)


def _line(labels: npt.NDArray[np.floating], errors: Mapping[str, Error]) -> ProbeLine:
    error, low, high = (np.array([getattr(e, field) for e in errors.values()]) for field in ("error", "low", "high"))
    return ProbeLine(labels, error, low, high)
