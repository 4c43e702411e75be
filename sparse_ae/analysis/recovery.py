"""Recovery: atoms and firing of units against the features that the data were made from."""

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from scipy import sparse
from torch import Tensor

from sparse_ae.analysis.base import Label, Need, Result, Subject, needs
from sparse_ae.analysis.stability import match_atoms, matchable
from sparse_ae.analysis.statistics import mean_defined
from sparse_ae.data import Synthetic
from sparse_ae.data.sparse_model import Truth
from sparse_ae.functional import blocks
from sparse_ae.plotting.style import BLUE, GREY, Array, finish, log_positions, note

Cosine = Annotated[float, Field(gt=0, lt=1)]
Indices = npt.NDArray[np.int64]

_TRUTH = Need(Synthetic, "recovery needs the true features, and the data have none", "data=synthetic")

_BINS = 20
_ORANGE = "#D55E00"


class Numbers(NamedTuple):
    """Recovery of the true features; None where undefined. A feature without a unit of its own is not found."""

    samples: int
    """Number of samples."""
    units: int
    """Number of units."""
    dead_units: int
    """Number of units whose code is never != 0, which are left out."""
    true_features: int
    """Number of features that the data were made from."""
    compared_features: int
    """Number of them that are compared: all, but for very many features and units."""
    silent_features: int
    """Number of these that fire in no sample."""
    true_l0: float
    """Features that fire in a sample, mean."""
    l0: float
    """Codes != 0 of a sample, mean."""
    mcc: Annotated[float, Label("MCC (mean |cosine| of matched atoms)")]
    """|Cosine| of true atoms and units matched one to one, mean over features; 0 for one without a unit."""
    random_mcc: float
    """Value of ``mcc`` for as many atoms of random (Gaussian) direction."""
    found_share: Annotated[float, Label("share of true features found")]
    """Share of the features whose matched |cosine| is at least ``found_cosine``."""
    random_found_share: float
    """Value of ``found_share`` for as many atoms of random direction."""
    found_cosine: float
    """The option."""
    best_cosine: float | None
    """Largest |cosine| of a true atom to a unit, which others may share, mean over features."""
    uniqueness: Annotated[float, Label("distinct best units per true feature")]
    """Number of different units that are the best of a feature, per feature: 1 if no two share theirs."""
    precision: float | None
    """Share of the samples in which the matched unit is active where the feature fires, mean over units ever active."""
    recall: float | None
    """Share of the samples in which a feature fires where its unit is active, mean over features that ever fire."""
    f1: Annotated[float | None, Label("F1 of firing, mean over true features")]
    """Harmonic mean of precision and recall, mean over features that ever fire; 0 for one without a unit."""
    magnitude_slope: Annotated[float | None, Label("magnitude of codes relative to the truth")]
    """Slope through 0 of |code| |atom| on the true code where both fire, mean over found features: 1 - shrinkage."""
    split_share: float
    """Share of the features with two or more units: the nearest to these, at a |cosine| of ``split_cosine`` or more."""
    units_per_feature: float
    """Number of such units of a feature, mean."""
    split_cosine: float
    """The option."""
    absorption: Annotated[float | None, Label("parents silent where a child fires")]
    """Share of the samples with a child in which the unit of its parent is silent, mean over children of found parents;
    None without a hierarchy.
    """
    silent_alone: float | None
    """Share of the samples with that parent and none of its children in which its unit is silent, mean likewise."""
    parent_cosine: float | None
    """|Cosine| of the unit of a child and the true atom of its parent, mean; None without a hierarchy."""


class _Matched(NamedTuple):
    """Features and the units matched with them, m pairs."""

    feature: Indices
    """Indices of true features ``(m,)``."""
    unit: Indices
    """Indices of units ``(m,)``."""
    cosine: Array
    """Cosines with their signs ``(m,)``."""


class _Nearest(NamedTuple):
    """Best unit of each feature, and nearest feature of each unit; -1 and 0 where there are none."""

    unit: Indices
    """Unit of the largest |cosine| ``(K,)``."""
    cosine: Array
    """That |cosine| ``(K,)``."""
    units: Indices
    """Number of units that are nearest to a feature, and near enough, ``(K,)``."""


class _Firing(NamedTuple):
    """Firing of features and of their units; NaN where undefined."""

    precision: Array
    """Precision of each feature's unit ``(M,)``."""
    recall: Array
    """Recall ``(M,)``."""
    f1: Array
    """F1 ``(M,)``."""
    slope: Array
    """Slope of magnitudes ``(M,)``."""
    true: Array
    """True codes where feature and unit fire, of found features, ``(n,)``."""
    contributed: Array
    """|code| |atom| there ``(n,)``."""


class _Hierarchy(NamedTuple):
    """Children and the units of their parents; NaN for features without a parent that is found."""

    absorbed: Array
    """Share of the samples with the child in which the parent's unit is silent ``(M,)``."""
    alone: Array
    """Share of the samples with the parent and no child in which its unit is silent ``(M,)``."""
    parent_cosine: Array
    """|Cosine| of the child's unit and the parent's atom ``(M,)``."""


@needs(_TRUTH)
def analyse(subject: Subject, *, found_cosine: Cosine = 0.9, split_cosine: Cosine = 0.7) -> Result:
    """Compare the dictionary and the codes with the features that the data were made from.

    Atoms are matched one to one by the largest sum of |cosines|; where a decoder is not linear, ``Subject.directions``
    stand for atoms. Dead units and atoms of norm 0 are left out. A unit is active where its |code| exceeds the sample's
    threshold. The null has as many atoms of random direction. See ``Numbers`` for the results.

    Arrays of features ``(M,)``: ``unit``, the one matched, and ``cosine``; ``best_unit`` and ``best_cosine``;
    ``units``, those counted for splitting; ``precision``, ``recall``, ``f1``, ``slope``, ``absorbed``,
    ``silent_alone``, ``parent_cosine``; and the truth: ``true_atoms (M, D)``, ``true_bias (D,)``, ``probability``,
    ``parent``, and ``frequency`` in the sample. Raises ``ConfigError`` for data whose features nobody knows.

    Sources: H. W. Kuhn, 1955 (matching); D. Chanin et al., "A is for absorption", arXiv 2409.14507, for absorption.
    """
    if subject.sample.truth is None:
        raise _TRUTH.error
    truth = subject.sample.truth()
    living = (~subject.dead & subject.directions.any(dim=1)).nonzero()[:, 0]
    directions = subject.directions[living]
    compared = matchable(len(truth.atoms), len(living))
    atoms = truth.atoms[compared]
    pairs = match_atoms(atoms, directions)
    matched = _Matched(compared.numpy()[pairs.first], living.numpy()[pairs.second], pairs.cosine)
    random = np.abs(
        match_atoms(atoms, torch.randn(directions.shape, generator=torch.Generator().manual_seed(0))).cosine
    )
    nearest = _nearest(atoms, directions, split_cosine)
    fires = truth.codes.astype(bool)
    frequency = np.asarray(fires.mean(axis=0)).ravel()
    active = _active(subject)
    found = np.abs(matched.cosine) >= found_cosine
    firing = _firing(subject, truth, matched, found, active)
    hierarchy = _hierarchy(subject, truth, matched, found, active)
    ever = frequency[compared] > 0
    numbers = Numbers(
        samples=len(subject.x),
        units=len(subject.dead),
        dead_units=int(subject.dead.sum()),
        true_features=len(truth.atoms),
        compared_features=len(compared),
        silent_features=int((~ever).sum()),
        true_l0=float(frequency.sum()),
        l0=float(subject.codes.counts.double().mean()),
        mcc=float(np.abs(matched.cosine).sum() / len(compared)),
        random_mcc=float(random.sum() / len(compared)),
        found_share=float(found.sum() / len(compared)),
        random_found_share=float((random >= found_cosine).sum() / len(compared)),
        found_cosine=found_cosine,
        best_cosine=mean_defined(nearest.cosine) if len(living) else None,
        uniqueness=len(np.unique(nearest.unit[nearest.unit >= 0])) / len(compared),
        precision=mean_defined(firing.precision[compared]),
        recall=mean_defined(firing.recall[compared]),
        f1=mean_defined(firing.f1[compared]),
        magnitude_slope=mean_defined(firing.slope[matched.feature[found]]),
        split_share=float((nearest.units > 1).mean()),
        units_per_feature=float(nearest.units.mean()),
        split_cosine=split_cosine,
        absorption=mean_defined(hierarchy.absorbed),
        silent_alone=mean_defined(hierarchy.alone),
        parent_cosine=mean_defined(hierarchy.parent_cosine),
    )
    features = len(truth.atoms)
    arrays = {
        "unit": _filled(features, matched.feature, matched.unit, -1),
        "cosine": _filled(features, matched.feature, matched.cosine, np.nan),
        "best_unit": _filled(features, compared.numpy(), living.numpy()[nearest.unit] if len(living) else -1, -1),
        "best_cosine": _filled(features, compared.numpy(), nearest.cosine, np.nan),
        "units": _filled(features, compared.numpy(), nearest.units, 0),
        "precision": firing.precision,
        "recall": firing.recall,
        "f1": firing.f1,
        "slope": firing.slope,
        "absorbed": hierarchy.absorbed,
        "silent_alone": hierarchy.alone,
        "parent_cosine": hierarchy.parent_cosine,
        "true_atoms": truth.atoms.numpy(),
        "true_bias": truth.bias.numpy(),
        "probability": truth.probability.numpy(),
        "parent": truth.parent.numpy(),
        "frequency": frequency,
    }
    figures = {
        "atoms": _atoms_figure(matched, random, frequency, len(compared), found_cosine, numbers),
        "codes": _codes_figure(firing, numbers),
    }
    if (truth.parent >= 0).any():
        figures["hierarchy"] = _hierarchy_figure(hierarchy, arrays["cosine"], numbers)
    return Result.of(numbers, figures, arrays)


def _nearest(atoms: Tensor, directions: Tensor, split_cosine: float) -> _Nearest:
    """Compare true atoms ``(K, D)`` with directions of units ``(n, D)``, as many at a time as a block holds."""
    features, units = len(atoms), len(directions)
    best, unit = torch.zeros(features), torch.full((features,), -1)
    feature, nearness = torch.zeros(units, dtype=torch.long), torch.zeros(units)
    if units:
        first, second = F.normalize(atoms, dim=1), F.normalize(directions, dim=1)
        for part in blocks(features, units):
            cosines = (first[part] @ second.T).abs_()
            best[part], unit[part] = cosines.max(dim=1)
            largest, place = cosines.max(dim=0)
            feature = torch.where(largest > nearness, place + part.start, feature)
            nearness = torch.maximum(nearness, largest)
    counts = feature[nearness >= split_cosine].bincount(minlength=features)
    return _Nearest(unit.numpy(), best.clamp(0, 1).numpy(), counts.numpy())


def _active(subject: Subject) -> sparse.csr_array:
    """True where a unit's |code| exceeds the threshold, ``(N, B)``."""
    codes = subject.codes.by_unit
    there = np.abs(codes.data) > subject.sample.threshold
    active = sparse.csr_array((there, codes.indices.copy(), codes.indptr.copy()), shape=codes.shape)
    active.eliminate_zeros()  # in place
    return active


def _together(first: sparse.csr_array, second: sparse.csr_array) -> Array:
    """Sum of the products of each row of two ``(m, B)``, ``(m,)`` in float64."""
    together: Array = np.asarray(first.astype(np.float64).multiply(second.astype(np.float64)).sum(axis=1)).ravel()
    return together


def _count(rows: sparse.csr_array) -> Array:
    """Number of values that are stored in each row ``(m,)``."""
    count: Array = np.diff(rows.indptr).astype(float)
    return count


def _share(part: Array, whole: Array) -> Array:
    """part / whole, NaN where the whole is 0."""
    share: Array = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share


def _filled(n: int, index: Indices, values: npt.NDArray[np.generic] | float, other: float) -> npt.NDArray[np.generic]:
    """``values`` at ``index``, and ``other`` at all other places of ``(n,)``."""
    filled = np.full(n, other, dtype=np.result_type(np.asarray(values).dtype, type(other)))
    filled[index] = values
    return filled


def _firing(
    subject: Subject, truth: Truth, matched: _Matched, found: npt.NDArray[np.bool_], active: sparse.csr_array
) -> _Firing:
    true = truth.codes.T.tocsr()
    features = true.shape[0]
    own, theirs = true[matched.feature], active[matched.unit]
    both, ever = _together(own.astype(bool), theirs), _count(true)
    recall, f1 = np.where(ever > 0, 0.0, np.nan), np.where(ever > 0, 0.0, np.nan)
    recall[matched.feature] = _share(both, _count(own))
    fires = _count(own) > 0
    f1[matched.feature] = np.where(fires, _share(2 * both, _count(own) + _count(theirs)), np.nan)
    # Contribution of a unit whose code is 1; decoders that are not linear have it on average.
    norm = (subject.directions.norm(dim=1) / subject.typical).numpy()[matched.unit]
    sizes = abs(subject.codes.by_unit[matched.unit]).multiply(theirs).tocsr()
    slope = _share(norm * _together(sizes, own), _together(own.multiply(own), theirs))
    true_there = own[found].multiply(theirs[found]).tocoo()
    contributed = (sparse.diags_array(norm[found]) @ sizes[found]).tocsr()[true_there.coords]
    return _Firing(
        _filled(features, matched.feature, _share(both, _count(theirs)), np.nan).astype(float),
        recall,
        f1,
        _filled(features, matched.feature, slope, np.nan).astype(float),
        true_there.data,
        np.asarray(contributed).ravel(),
    )


def _hierarchy(
    subject: Subject, truth: Truth, matched: _Matched, found: npt.NDArray[np.bool_], active: sparse.csr_array
) -> _Hierarchy:
    features, parent = len(truth.atoms), truth.parent.numpy()
    unit_of = _filled(features, matched.feature, matched.unit, -1).astype(np.int64)
    found_unit = _filled(features, matched.feature[found], matched.unit[found], -1).astype(np.int64)
    fires = truth.codes.astype(bool)
    child = np.flatnonzero((parent >= 0) & (found_unit[parent] >= 0))
    own, theirs = fires.T.tocsr()[child], active[found_unit[parent[child]]]
    absorbed = 1 - _share(_together(own, theirs), _count(own))
    is_child = np.flatnonzero(parent >= 0)
    to_parent = sparse.csr_array((np.ones(len(is_child)), (is_child, parent[is_child])), shape=(features, features))
    alone = fires.astype(float) - fires.astype(float).multiply((fires.astype(float) @ to_parent) > 0)
    alone = alone.T.tocsr()
    alone.eliminate_zeros()
    of_parent = alone[parent[child]]
    silent = 1 - _share(_together(of_parent, theirs), _count(of_parent))
    coded = is_child[unit_of[is_child] >= 0]
    cosines = F.cosine_similarity(subject.directions[unit_of[coded]], truth.atoms[parent[coded]], dim=1).abs()
    return _Hierarchy(
        _filled(features, child, absorbed, np.nan).astype(float),
        _filled(features, child, silent, np.nan).astype(float),
        _filled(features, coded, cosines.numpy(), np.nan).astype(float),
    )


def _atoms_figure(
    matched: _Matched, random: Array, frequency: Array, compared: int, found_cosine: float, numbers: Numbers
) -> Figure:
    """|Cosines| of matched atoms, largest first, beside random ones; and over the frequency of the features."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for values, colour, line, name in ((np.abs(matched.cosine), BLUE, "-", "units"), (random, GREY, "--", "random")):
        rank = (np.arange(len(values)) + 0.5) / compared
        label = "matched units" if name == "units" else "matched random directions"
        left.plot(rank, np.sort(values)[::-1], line, color=colour, label=label)
    left.set(title="Matched one to one", xlabel="share of true features, best first", ylabel="|cosine|")
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    positions = log_positions(right, "x", frequency[matched.feature])
    right.plot(positions, np.abs(matched.cosine), "o", color=BLUE, markersize=3, alpha=0.6, label="true feature")
    right.set(title="Rare and frequent features", xlabel="share of samples in which the feature fires")
    right.set(ylabel="|cosine| of its unit", ylim=(0, 1.02))
    for axes in (left, right):
        axes.axhline(found_cosine, color="black", linewidth=0.8, label=f"found: {found_cosine:g} or more")
    if not len(matched.cosine):
        note(left, "no living unit")
        note(right, "no living unit")
    found = f"{numbers.found_share:.0%} of {compared:,} true features found"
    finish(figure, f"{found}, MCC {numbers.mcc:.3f}", columns=4)
    return figure


def _codes_figure(firing: _Firing, numbers: Numbers) -> Figure:
    """Precision and recall of each feature; contributions of units over true magnitudes."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(firing.recall, firing.precision, "o", color=BLUE, markersize=3, alpha=0.6, label="true feature")
    left.set(title="Firing", xlabel="recall", ylabel="precision of the matched unit", xlim=(-0.02, 1.02))
    left.set(ylim=(-0.02, 1.02))
    if not np.isfinite(firing.precision).any():
        note(left, "no unit is active")
    _magnitudes(right, firing.true, firing.contributed)
    slope = "" if numbers.magnitude_slope is None else f", magnitude {numbers.magnitude_slope:.2f} of the truth"
    f1 = "undefined" if numbers.f1 is None else f"{numbers.f1:.3f}"
    finish(figure, f"Firing of units against true features: F1 {f1}{slope}", columns=4)
    return figure


def _magnitudes(axes: Axes, true: Array, contributed: Array) -> None:
    axes.set(title="Magnitude, found features", xlabel="true magnitude", ylabel="|code| x |atom|")
    if not len(true):
        note(axes, "no feature is found")
        return
    edges = np.unique(np.quantile(true, np.linspace(0, 1, _BINS + 1)))
    place = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = np.unique(place)
    middle = [float(np.median(true[place == i])) for i in bins]
    quartiles = np.array([np.quantile(contributed[place == i], (0.25, 0.5, 0.75)) for i in bins])
    axes.plot(middle, quartiles[:, 1], "o-", color=BLUE, markersize=3, label="median")
    axes.vlines(middle, quartiles[:, 0], quartiles[:, 2], color=BLUE, linewidth=3, alpha=0.3, label="middle half")
    top = max(float(np.max(middle)), float(quartiles.max())) * 1.05
    axes.plot([0, top], [0, top], color="black", linewidth=0.8, label="as in the truth")
    axes.set(xlim=(0, top), ylim=(0, top))


def _hierarchy_figure(hierarchy: _Hierarchy, cosine: Array, numbers: Numbers) -> Figure:
    """Silence of parents' units with a child and alone; |cosines| of children's units to child and parent."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    axes = (
        (left, hierarchy.alone, hierarchy.absorbed, "no parent is found"),
        (right, np.abs(cosine), hierarchy.parent_cosine, "no child has a unit"),
    )
    for panel, x, y, empty in axes:
        panel.plot([0, 1], [0, 1], color="black", linewidth=0.8, label="both alike")
        panel.plot(x, y, "o", color=_ORANGE, markersize=3, alpha=0.6, label="child")
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if not np.isfinite(y).any():
            note(panel, empty)
    left.set(title="Parent's unit silent, share of samples", xlabel="parent without children", ylabel="with this child")
    right.set(title="|cosine| of the child's unit", xlabel="to the child's atom", ylabel="to the parent's atom")
    share = "undefined" if numbers.absorption is None else f"{numbers.absorption:.3f}"
    finish(figure, f"Parents and children: absorption {share}", columns=4)
    return figure
