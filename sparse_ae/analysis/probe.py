"""Linear probes: errors of linear classifiers on the codes, and on other representations of the same samples."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import product
from operator import add
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, StrMethodFormatter
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from scipy import sparse
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor

from sparse_ae.analysis.base import LISTED, NOT_EMPTY, Label, Result, Subject, classes_needed
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import stratified
from sparse_ae.coders import PCA
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.style import Look, finish, looks

Classifier = Literal["logistic", "svm"]
Encode = Callable[[Tensor], Tensor | Codes]
Features: TypeAlias = npt.NDArray[np.float32] | sparse.csr_array
Classes = npt.NDArray[np.int64]

_NAMES = {"logistic": "logistic regression", "svm": "linear SVM"}
_NAME, _CODES = "probe", "codes"
_TOLERANCE, _MOST_STEPS = 1e-6, 3000
"""Tolerance of logistic regression's gradient, and its largest number of steps."""
_MOST_FEATURES = 2**27
"""Largest number of random features of all samples."""
_LEAST_DRAWN = 1e-4
"""Error drawn in place of no error at all: a logarithmic axis has no 0."""


class Numbers(NamedTuple):
    """Test errors of the probes."""

    logistic_error: Annotated[float | None, Label("test error of logistic regression")]
    """Test error of logistic regression on the codes with all labels; None if it was not asked for."""
    svm_error: Annotated[float | None, Label("test error of a linear SVM")]
    """Test error of a linear SVM on the codes with all labels; None if it was not asked for."""
    samples: dict[str, int]
    """Number of samples of each split."""
    representations: dict[str, dict[str, Any]]
    """``dim`` and ``nonzeros`` of each representation and, by classifier and labels per class, the ``Error``."""


class Fitted(Protocol):
    """A fitted classifier of scikit-learn."""

    max_iter: int
    n_iter_: npt.NDArray[np.integer] | int

    def predict(self, x: Features) -> Classes:
        """Classes ``(B,)`` of ``x (B, F)``."""


class Split(NamedTuple):
    """One representation of one split."""

    x: Features
    """Representation ``(B, F)``."""
    label: Classes
    """Classes ``(B,)``."""


class Representation(NamedTuple):
    """One representation of all samples, scaled by one number: the mean squared norm of a training row is 1."""

    train: Split
    val: Split
    test: Split


class Error(NamedTuple):
    """Share of test samples that a probe classifies wrongly."""

    error: float
    """Share of test samples, mean over draws of labels."""
    low: float
    """Lower end of a 95 % interval: Wilson's over test samples for one probe, Student's over draws for several."""
    high: float
    """Upper end of that interval."""
    c: list[float]
    """Inverse strength of regularisation chosen for each draw."""
    converged: bool
    """True if every probe converged."""


def analyse(
    subject: Subject,
    *,
    classifiers: Annotated[Sequence[Classifier], NOT_EMPTY] = ("logistic", "svm"),
    labels_per_class: Annotated[Sequence[PositiveInt], LISTED] = (10, 100, 1000),
    all_labels: bool = True,
    draws: Annotated[int, Field(ge=2)] = 3,
    c: Annotated[Sequence[PositiveFloat], NOT_EMPTY] = (1, 10, 100, 1000, 10000),
    n_choose: PositiveInt | None = 10000,
    pool: NonNegativeInt = 0,
    references: bool = True,
    seed: NonNegativeInt = 0,
) -> Result:
    """Probes from scikit-learn, fitted to the codes and with ``references`` to other representations.

    References are PCA with as many components as units and with as many as there are codes != 0, random features
    max(0, W (x - mean)) of as many units (fewer where those of all samples were more than 2^27 values), and the pixels
    or values themselves.

    Of the inverse strengths ``c`` the one with the fewest errors on the validation split is taken, the smallest of
    those that tie. With ``all_labels`` it is chosen with probes of ``n_choose`` training samples (None: all), and the
    probe then fitted to training and validation samples together. For each of ``labels_per_class`` it is chosen with
    the ``draws`` probes that are reported, each of other samples of the training split, and with all of the validation
    split. The test split chooses nothing. With ``pool`` an image of any split is represented by the mean over the
    (2 pool + 1)^2 images that it becomes when its rows and its columns are rolled by -pool to pool pixels. What leaves
    at one edge comes in at the other.

    Arrays: ``error``, ``low`` and ``high`` ``(classifiers, representations, K)`` for K numbers of ``labels``, and the
    names of the first two. Raises ``ConfigError`` for data without classes, without a validation split, with no number
    of labels, where there are fewer than two classes to learn, and for a ``pool`` of vectors or of half an image.
    """
    if not labels_per_class and not all_labels:
        raise ConfigError("labels_per_class", [], "nothing to fit", "a number of labels, or all_labels=true")
    if pool and not subject.view.is_image:
        raise ConfigError("pool", pool, "the data are vectors, which cannot be moved", "0")
    if 2 * pool >= (size := min(subject.sample.shape[-2:])):
        raise ConfigError("pool", pool, "moves as far as half an image", f"0 to {(size - 1) // 2}")
    classifiers, counts = list(dict.fromkeys(classifiers)), sorted(set(labels_per_class))
    splits = {
        "train": _labelled(subject, "train"),
        "val": _labelled(subject, "val"),
        "test": (subject.x, classes_needed(subject.label, _NAME)),
    }
    sizes = {split: len(label) for split, (_, label) in splits.items()}
    encoders = _encoders(subject, splits, pool, seed) if references else {_CODES: subject.encode}
    found: dict[str, dict[str, Any]] = {}
    errors: dict[str, dict[str, dict[str, Error]]] = {}
    for name, encode in encoders.items():  # one at a time, for memory
        data = _represent(_pooled(encode, pool, subject.sample.shape), splits)
        nonzeros = np.count_nonzero(_stored(data.test.x)) / sizes["test"]
        found[name] = {"dim": data.test.x.shape[1], "nonzeros": nonzeros}
        for which in classifiers:
            own = {str(n): _few(data, which, n, draws, c, seed) for n in counts}
            if all_labels:
                own["all"] = _all(data, which, n_choose or sizes["train"], c)
            errors.setdefault(which, {})[name] = own
            found[name][which] = {labels: error._asdict() for labels, error in own.items()}
    with_all = {which: errors[which][_CODES]["all"].error for which in classifiers if all_labels}
    numbers = Numbers(with_all.get("logistic"), with_all.get("svm"), sizes, found)
    per_class = (sizes["train"] + sizes["val"]) / len(splits["train"][1].unique())
    labels = np.array([*counts, *([per_class] if all_labels else [])], dtype=float)
    arrays = {
        "labels": labels,
        "classifiers": np.array(list(errors)),
        "representations": np.array(list(found)),
        **{
            field: np.array(
                [[[getattr(e, field) for e in own.values()] for own in by_name.values()] for by_name in errors.values()]
            )
            for field in ("error", "low", "high")
        },
    }
    return Result.of(numbers, {"probe": _panels(errors, labels, f"{sizes['test']:,} test {subject.noun}s")}, arrays)


def _encoders(subject: Subject, splits: Mapping[str, tuple[Tensor, Tensor]], pool: int, seed: int) -> dict[str, Encode]:
    """Encoders of the codes and of the references, by name."""
    (train, _), (val, _) = splits["train"], splits["val"]
    codes, dim = _pooled(subject.encode, pool, subject.sample.shape)(val), train.shape[1]
    samples, units = codes.shape
    sizes = dict.fromkeys(min(max(1, n), dim) for n in (units, round(np.count_nonzero(_stored(codes)) / samples)))
    mean = train.mean(dim=0)
    random = min(units, max(1, _MOST_FEATURES // sum(len(label) for _, label in splits.values())))
    weight = torch.randn(dim, random, generator=torch.Generator().manual_seed(seed))
    return {
        _CODES: subject.encode,
        **{f"PCA, {components} components": PCA(components).fit(train).encode for components in sizes},
        f"{random} random features": lambda x: ((x - mean) @ weight).relu(),
        "pixels" if subject.view.is_image else "values": lambda x: x,
    }


def _pooled(encode: Encode, pool: int, shape: tuple[int, ...]) -> Callable[[Tensor], Features]:
    """Mean representation of an image of ``shape`` over all moves by up to ``pool`` pixels."""
    if not pool:
        return lambda x: _features(encode(x))
    steps = range(-pool, pool + 1)

    def mean(x: Tensor) -> Features:
        images = x.reshape(-1, *shape)
        moved = (images.roll(way, dims=(-2, -1)).flatten(1) for way in product(steps, steps))
        return reduce(add, (_features(encode(each)) for each in moved)) * np.float32(1 / len(steps) ** 2)

    return mean


def _represent(encode: Callable[[Tensor], Features], splits: Mapping[str, tuple[Tensor, Tensor]]) -> Representation:
    parts = {name: Split(encode(x), label.numpy()) for name, (x, label) in splits.items()}
    train = parts["train"]
    norm = np.sqrt(np.square(_stored(train.x), dtype=np.float64).sum() / len(train.label)) or 1.0
    is_sparse = isinstance(train.x, sparse.csr_array) and Codes(train.x).is_sparse

    def scaled(x: Features) -> Features:
        kept = x if is_sparse or not isinstance(x, sparse.csr_array) else x.toarray()
        return kept * np.float32(1 / norm)

    return Representation(**{name: Split(scaled(part.x), part.label) for name, part in parts.items()})


def _features(found: Tensor | Codes) -> Features:
    return found.numpy() if isinstance(found, Tensor) else found.by_sample


def _stored(x: Features) -> npt.NDArray[np.float32]:
    """Values of a representation, without the zeros of one that is sparse."""
    stored: npt.NDArray[np.float32] = x.data if isinstance(x, sparse.csr_array) else x
    return stored


def _concatenated(parts: Sequence[Features]) -> Features:
    return sparse.vstack(parts, format="csr") if isinstance(parts[0], sparse.csr_array) else np.concatenate(parts)


def _labelled(subject: Subject, split: Literal["train", "val"]) -> tuple[Tensor, Tensor]:
    x, classes = subject.sample.labelled(split)
    label = classes_needed(classes, _NAME)
    if len(label) == 0:
        reason = "no validation split, on which the regularisation of probes is chosen"
        raise ConfigError("data.val_size", 0, reason, "a number above 0")
    return x.float(), label


def _known(data: Representation, rows: npt.NDArray[np.integer]) -> Split:
    """Some ``rows`` of the training samples followed by the validation samples."""
    both = data.train, data.val
    return Split(_concatenated([part.x for part in both])[rows], np.concatenate([part.label for part in both])[rows])


def _all(data: Representation, classifier: Classifier, n_choose: int, c: Sequence[float]) -> Error:
    """Error of a probe fitted to all labels of training and validation samples."""
    chosen = stratified(torch.from_numpy(data.train.label), n_choose).numpy()
    best, _ = _choose(classifier, _known(data, chosen), data.val, c)
    n_known, n = len(data.train.label) + len(data.val.label), len(data.test.label)
    probe = _fit(classifier, best, _known(data, np.arange(n_known)))
    wrong = int((probe.predict(data.test.x) != data.test.label).sum())
    low, high = binomtest(wrong, n).proportion_ci(method="wilson")
    return Error(wrong / n, low, high, [best], _has_converged(probe))


def _few(data: Representation, classifier: Classifier, n: int, draws: int, c: Sequence[float], seed: int) -> Error:
    """Error with ``n`` labels of each class, or as many as it has: the mean over the draws."""
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
    """Value of ``c`` whose probe errs least on ``val``, and that probe."""
    probes = {value: _fit(classifier, value, train) for value in sorted(c)}
    best = min(probes, key=lambda value: int((probes[value].predict(val.x) != val.label).sum()))
    return best, probes[best]


def _fit(classifier: Classifier, c: float, data: Split) -> Fitted:
    if (classes := len(np.unique(data.label))) < 2:
        raise ConfigError("", reason=f"{len(data.label)} labels of {classes} class to learn from", expected="2 or more")
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


def _panels(
    errors: Mapping[str, Mapping[str, Mapping[str, Error]]], labels: npt.NDArray[np.floating], tested: str
) -> Figure:
    """A panel for each classifier: errors over ``labels`` per class, a line with intervals for each representation.

    ``tested`` names the samples in the title.
    """
    figure = Figure(figsize=(5.5 * max(len(errors), 1.4), 4.6), layout="constrained")
    styles = looks(list(next(iter(errors.values()))))
    panels = figure.subplots(1, len(errors), squeeze=False)[0]
    for axes, (classifier, lines) in zip(panels, errors.items(), strict=True):
        for place, (name, line) in enumerate(lines.items()):
            shifted = labels * (1 + 0.04 * place)  # keeps intervals at the same number of labels apart
            _draw(axes, shifted, list(line.values()), name, styles[name])
        axes.set(xscale="log", yscale="log", xlabel="labels per class", ylabel="test error", title=_NAMES[classifier])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    intervals = f"95 % intervals: over {tested.partition(' ')[2]} with all labels, over draws of labels with few"
    finish(figure, f"Linear probes: errors on {tested}\n{intervals}", columns=3)
    return figure


def _draw(axes: Axes, x: npt.NDArray[np.floating], errors: Sequence[Error], name: str, look: Look) -> None:
    low, error, high = (
        np.maximum([getattr(each, field) for each in errors], _LEAST_DRAWN) for field in ("low", "error", "high")
    )
    axes.errorbar(
        x,
        error,
        yerr=(error - low, high - error),
        label=name,
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        linewidth=2.4 if name == _CODES else 1.3,
        markersize=5,
        capsize=2,
    )
