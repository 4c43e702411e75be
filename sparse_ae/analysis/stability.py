"""Whether another seed learns the same atoms: pairs of atoms of two runs, matched one to one."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sparse_ae.analysis.base import FinishedRun, Result, Subject
from sparse_ae.plotting import AtomPairs, atom_pair_strips, matched_cosine_curves
from sparse_ae.runs.directory import Run
from sparse_ae.runs.errors import RunError
from sparse_ae.runs.export import load
from sparse_ae.runs.naming import relevant_config

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]
Cosine = Annotated[float, Field(gt=0, lt=1)]
Runs = Annotated[list[FinishedRun], Field(min_length=1)] | None


class Matching(NamedTuple):
    """m = min(n, n') pairs of an atom of ``(n, D)`` and one of ``(n', D)``, those most alike first."""

    first: Indices
    second: Indices
    cosine: Array
    """Of each pair, with its sign."""


def cosines_between(first: Tensor, second: Tensor) -> Array:
    """Of atoms ``(n, D)`` and ``(n', D)``: ``(n, n')``."""
    cosines: Array = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).clamp(-1, 1).numpy()
    return cosines


def match(cosines: Array) -> Matching:
    """The pairing by ``(n, n')`` with the largest sum of |cosines| that uses no atom twice.

    Source: H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 1955.
    """
    rows, columns = linear_sum_assignment(np.abs(cosines), maximize=True)
    matched = cosines[rows, columns]
    order = np.argsort(-np.abs(matched), kind="stable")
    return Matching(rows[order], columns[order], matched[order])


def seed_siblings(run: Run) -> list[Run]:
    """The finished runs beside ``run`` whose config differs in the seed, and in nothing else that matters."""
    here, own, siblings = run.path.resolve(), _but_for_the_seed(run.config), []
    for folder in sorted(here.parent.iterdir()):
        with suppress(RunError):  # no run, or a damaged one
            other = Run.open(folder)
            alike = other.read_state() == "finished" and _but_for_the_seed(other.config) == own
            if alike and other.config["seed"] != run.config["seed"]:
                siblings.append(other)
    return siblings


def _but_for_the_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the config changes the result, without the seed and those that repeat it, such as ``data.seed``."""
    relevant = relevant_config(config)
    seed = ("seed", relevant.pop("seed"))
    return {
        section: {key: value for key, value in node.items() if (key, value) != seed} if isinstance(node, dict) else node
        for section, node in relevant.items()
    }


class _Atoms(NamedTuple):
    """Those of one coder that are compared."""

    units: int
    """How many it has in all."""
    dead: int
    """How many of these are dead."""
    unit: Tensor
    """Which are compared: those not dead, and whose atom is not 0."""
    vectors: Tensor
    """Their atoms."""


class _Pair(NamedTuple):
    """The subject beside another run."""

    name: str
    atoms: _Atoms
    """The other's."""
    matching: Matching
    nulls: dict[str, Array]
    """|Cosines| by name."""


_UNMATCHED, _RANDOM, _IMAGES = "unmatched_cosine", "random_cosine", "image_cosine"
_NULL_NAMES = {
    _UNMATCHED: "the same atoms, paired at random",
    _RANDOM: "random directions, matched",
    _IMAGES: "training images, matched",
}


def analyse(subject: Subject, *, runs: Runs, high_cosine: Cosine, n_pairs: PositiveInt) -> Result:
    """The subject's atoms against those of each of ``runs``, by default of its siblings that differ in the seed alone.

    Where a decoder is not linear, what its units add is compared (``Subject.directions``). Dead units and atoms of norm
    0 are left out. What a matched cosine is worth, three nulls tell: the same atoms paired at random,
    random (Gaussian) directions on both sides, and training images in place of the other's atoms.

    Numbers, means over the other runs: ``matched_cosine``, the mean |cosine| of matched atoms; their median,
    ``matched_cosine_median``; ``high_cosine_share``, the share of them above ``high_cosine``; under each null the mean
    |cosine|, ``unmatched_cosine``, ``random_cosine`` and ``image_cosine``, and that share, ``random_high_share`` and so
    on. Then ``units`` and ``dead_units`` of this
    run, and in ``pairs`` the same of every other run, with how many atoms were ``matched``. None where there is nothing
    to match.

    Raises ``ValueError`` if there is no other run, or one of images of another size.
    """
    atoms, images = _atoms(subject), subject.sample.train_images()
    others = _others(subject, runs)
    pairs = [_compare(atoms, run, subject, images) for run in others]
    measured = [_measures(pair, high_cosine) for pair in pairs]
    numbers = {
        **{name: _mean([each[name] for each in measured]) for name in measured[0]},
        "units": atoms.units,
        "dead_units": atoms.dead,
        "high_cosine": high_cosine,
        "pairs": [
            {
                "run": pair.name,
                "units": pair.atoms.units,
                "dead_units": pair.atoms.dead,
                "matched": len(pair.matching.cosine),
                **each,
            }
            for pair, each in zip(pairs, measured, strict=True)
        ],
    }
    mean = numbers["matched_cosine"]
    curves = matched_cosine_curves(
        {pair.name: np.abs(pair.matching.cosine) for pair in pairs},
        {text: [pair.nulls[null] for pair in pairs] for null, text in _NULL_NAMES.items()},
        high=high_cosine,
        title="Atoms matched one to one" + ("" if mean is None else f": mean |cosine| {mean:.3f}"),
    )
    figures = {"matched_cosines": curves, "matched_atoms": _strips(subject, atoms, pairs[0], n_pairs)}
    arrays = {}
    for i, pair in enumerate(pairs):
        arrays[f"unit_{i}"] = atoms.unit[pair.matching.first].numpy()
        arrays[f"other_unit_{i}"] = pair.atoms.unit[pair.matching.second].numpy()
        arrays[f"cosine_{i}"] = pair.matching.cosine
    return Result(numbers, figures, arrays)


def _others(subject: Subject, runs: list[Run] | None) -> list[Run]:
    if runs is not None:
        own = subject.run.path.resolve() if subject.run is not None else None
        if any(run.path.resolve() == own for run in runs):
            raise ValueError(f"analysis.stability.runs={own}: is the run itself (allowed: folders of other runs)")
        return runs
    siblings = seed_siblings(subject.run) if subject.run is not None else []
    if not siblings:
        beside = f"beside {subject.run.shown_path}" if subject.run is not None else "beside a coder that is no run"
        given = f"analysis.stability.runs=null: no finished run {beside} differs from it in the seed alone"
        raise ValueError(f"{given} (allowed: folders of finished runs, or another seed trained first)")
    return siblings


def _compare(atoms: _Atoms, run: Run, subject: Subject, images: Tensor) -> _Pair:
    model, dimensions = load(run).to(subject.sample.x.device), atoms.vectors.shape[1]
    if model.dictionary.shape[1] != dimensions:
        given = f"analysis.stability.runs={run.path}: takes {model.dictionary.shape[1]} values per image"
        raise ValueError(f"{given} (allowed: runs that take {dimensions})")
    other = _atoms(Subject(model, subject.sample))
    cosines = cosines_between(atoms.vectors, other.vectors)
    generator = torch.Generator().manual_seed(0)
    random = [torch.randn(each.vectors.shape, generator=generator) for each in (atoms, other)]
    drawn = images[torch.randperm(len(images), generator=generator)[: len(other.vectors)]]
    nulls = {
        _UNMATCHED: cosines,
        _RANDOM: match(cosines_between(*random)).cosine,
        _IMAGES: match(cosines_between(atoms.vectors, drawn)).cosine,
    }
    return _Pair(
        run.path.resolve().name, other, match(cosines), {name: np.abs(null).ravel() for name, null in nulls.items()}
    )


def _atoms(subject: Subject) -> _Atoms:
    dead = subject.dead
    unit = (~dead & subject.directions.any(dim=1)).nonzero().flatten()
    return _Atoms(len(dead), int(dead.sum()), unit, subject.directions[unit])


def _measures(pair: _Pair, high_cosine: float) -> dict[str, float | None]:
    matched = np.abs(pair.matching.cosine)
    return {
        "matched_cosine": float(matched.mean()) if len(matched) else None,
        "matched_cosine_median": float(np.median(matched)) if len(matched) else None,
        "high_cosine_share": float((matched > high_cosine).mean()) if len(matched) else None,
        **{name: float(null.mean()) if len(null) else None for name, null in pair.nulls.items()},
        **{
            name.replace("cosine", "high_share"): float((null > high_cosine).mean()) if len(null) else None
            for name, null in pair.nulls.items()
        },
    }


def _mean(values: list[float | None]) -> float | None:
    """Over those that are defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _strips(subject: Subject, atoms: _Atoms, pair: _Pair, n_pairs: int) -> Figure:
    """The best, median and worst pairs."""
    matching, count = pair.matching, len(pair.matching.cosine)
    middle = max(0, (count - n_pairs) // 2)
    ranges = {
        "best": slice(n_pairs),
        "median": slice(middle, middle + n_pairs),
        "worst": slice(max(0, count - n_pairs), None),
    }
    strips = [
        AtomPairs(
            name,
            subject.images(atoms.vectors[matching.first[chosen]]),
            subject.images(pair.atoms.vectors[matching.second[chosen]]),
            [f"{cosine:.2f}" for cosine in matching.cosine[chosen]],
        )
        for name, chosen in ranges.items()
    ]
    title = f"Matched atoms of this run (above) and of {pair.name} (below), their cosine"
    return atom_pair_strips(strips, title=title)
