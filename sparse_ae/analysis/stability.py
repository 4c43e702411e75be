"""Stability between seeds: atoms of two runs matched one to one."""

from collections.abc import Mapping, Sequence
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

from sparse_ae.analysis.base import NOT_EMPTY, FinishedRun, Label, Result, Subject
from sparse_ae.analysis.statistics import evenly_spread, mean_defined
from sparse_ae.config.build import TARGET
from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Synthetic
from sparse_ae.functional import blockwise
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import GREY, Array, finish, looks, note
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import RunError
from sparse_ae.run.export import load
from sparse_ae.run.naming import relevant_config

Indices = npt.NDArray[np.intp]
Cosine = Annotated[float, Field(gt=0, lt=1)]
Runs = Annotated[Sequence[FinishedRun], NOT_EMPTY] | None

_CURVE_POINTS = 500
_MOST_COSINES = 2**24
"""Largest number of cosines of which the best matching is sought: it takes a minute."""
_MOST_MATCHED, _NEAREST = 2048, 4
"""Number of atoms that are matched where there are more, and of their nearest atoms among which."""
_MOST_PAIRED = 4096
"""Largest number of atoms of each run that are paired at random."""


class Matching(NamedTuple):
    """Pairs of an atom of ``(n, D)`` and one of ``(n', D)``, m = min(n, n') of them, the most alike first."""

    first: Indices
    """Indices of atoms of the first ``(m,)``."""
    second: Indices
    """Indices of atoms of the second ``(m,)``."""
    cosine: Array
    """Cosine of each pair, with its sign, ``(m,)``."""


class Numbers(NamedTuple):
    """Cosines of matched atoms and of three nulls, means over the other runs; None where there is nothing to match."""

    matched_cosine: Annotated[float | None, Label("mean |cosine| of matched atoms")]
    """|Cosine| of matched atoms, mean."""
    matched_cosine_median: float | None
    """|Cosine| of matched atoms, median."""
    high_cosine_share: Annotated[float | None, Label("atoms found again (share of matched)")]
    """Share of matched atoms with a |cosine| above ``high_cosine``."""
    unmatched_cosine: float | None
    """|Cosine| of the same atoms paired at random, mean."""
    random_cosine: float | None
    """|Cosine| of matched random (Gaussian) directions, mean."""
    sample_cosine: float | None
    """|Cosine| of atoms matched with training samples, mean."""
    unmatched_high_share: float | None
    """Share of the same atoms, paired at random, with a |cosine| above ``high_cosine``."""
    random_high_share: float | None
    """Share of matched random directions with a |cosine| above ``high_cosine``."""
    sample_high_share: float | None
    """Share of atoms, matched with training samples, with a |cosine| above ``high_cosine``."""
    units: int
    """Number of units of this run."""
    dead_units: int
    """Number of units of this run whose code is never != 0."""
    high_cosine: float
    """The option."""
    pairs: list[dict[str, Any]]
    """Matched share of every other ``run``, and the number of its atoms that were ``matched``."""


class _Atoms(NamedTuple):
    """Atoms of one coder."""

    units: int
    """Number of all units."""
    dead: int
    """Number of dead units."""
    unit: Tensor
    """Indices of the units compared: those not dead, with an atom that is not 0."""
    vectors: Tensor
    """Atoms of the units compared."""


class _Pair(NamedTuple):
    """The subject beside another run."""

    name: str
    """Name of the other run."""
    atoms: _Atoms
    """Atoms of the other run."""
    matching: Matching
    """Matching of the atoms of both."""
    nulls: dict[str, Array]
    """|Cosines| under each null."""


_NULLS = {
    "unmatched": "the same atoms, paired at random",
    "random": "random directions, matched",
    "sample": "training {noun}s, matched",
}


def analyse(subject: Subject, *, runs: Runs = None, high_cosine: Cosine = 0.9, n_pairs: PositiveInt = 5) -> Result:
    """Atoms of the subject against those of each of ``runs``, by default its siblings that differ in the seed alone.

    Where a decoder is not linear, ``Subject.directions`` are compared. Dead units and atoms of norm 0 are left out.
    Three nulls tell the worth of a matched cosine: the same atoms paired at random, random (Gaussian) directions on
    both sides, and training samples in place of the other's atoms. See ``Numbers`` for the results.

    Arrays, for each other run i: ``unit_i`` and ``other_unit_i``, the units matched, and their ``cosine_i``. Raises
    ``ConfigError`` without another run, and for a run of data of another size.
    """
    atoms, rows = _atoms(subject), subject.sample.train_rows()
    pairs = [_compare(atoms, run, subject, rows) for run in _others(subject, runs)]
    measured = [_measures(pair, high_cosine) for pair in pairs]
    numbers = Numbers(
        **{name: mean_defined([each[name] for each in measured]) for name in measured[0]},
        units=atoms.units,
        dead_units=atoms.dead,
        high_cosine=high_cosine,
        pairs=[
            {
                "run": pair.name,
                "units": pair.atoms.units,
                "dead_units": pair.atoms.dead,
                "matched": len(pair.matching.cosine),
                **each,
            }
            for pair, each in zip(pairs, measured, strict=True)
        ],
    )
    figures = {"matched_cosines": _curves(pairs, high_cosine, numbers.matched_cosine, noun=subject.noun)}
    if subject.has_pictures:
        figures["matched_atoms"] = _strips(subject, atoms, pairs[0], n_pairs)
    arrays = {}
    for i, pair in enumerate(pairs):
        arrays[f"unit_{i}"] = atoms.unit[pair.matching.first].numpy()
        arrays[f"other_unit_{i}"] = pair.atoms.unit[pair.matching.second].numpy()
        arrays[f"cosine_{i}"] = pair.matching.cosine
    return Result.of(numbers, figures, arrays)


def cosines_between(first: Tensor, second: Tensor) -> Array:
    """Cosines of atoms ``(n, D)`` and ``(n', D)``: ``(n, n')``."""
    cosines: Array = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).clamp(-1, 1).numpy()
    return cosines


def match(cosines: Array) -> Matching:
    """Pairing by ``(n, n')`` with the largest sum of |cosines| that uses no atom twice.

    Source: H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 1955.
    """
    rows, columns = linear_sum_assignment(np.abs(cosines), maximize=True)
    matched = cosines[rows, columns]
    order = np.argsort(-np.abs(matched), kind="stable")
    return Matching(rows[order], columns[order], matched[order])


def matchable(n: int, others: int) -> Tensor:
    """Indices of those of ``n`` atoms that are matched with ``others`` atoms: of very many, 2,048 evenly spread."""
    return torch.arange(n) if n * others <= _MOST_COSINES else evenly_spread(n, _MOST_MATCHED)


def match_atoms(first: Tensor, second: Tensor) -> Matching:
    """``match`` atoms ``(n, D)`` and ``(n', D)``.

    Where their cosines are more than 2^24, these are of those of the first that are ``matchable``, and the 4 of the
    second that are nearest to each of those.
    """
    if len(first) * len(second) <= _MOST_COSINES:
        return match(cosines_between(first, second))
    some = matchable(len(first), len(second))

    def near(part: slice) -> Tensor:
        cosines = torch.from_numpy(cosines_between(first[some[part]], second)).abs()
        return cosines.topk(min(_NEAREST, len(second)), dim=1).indices

    others = blockwise(len(some), len(second), near).unique()
    found = match(cosines_between(first[some], second[others]))
    return Matching(some.numpy()[found.first], others.numpy()[found.second], found.cosine)


def seed_siblings(run: Run) -> list[Run]:
    """Finished runs beside ``run`` whose configuration differs in the seed, and in nothing else that matters."""
    here, own, siblings = run.path.resolve(), _but_for_the_seed(run.config), []
    for folder in sorted(here.parent.iterdir()):
        with suppress(RunError):  # not a run, or a damaged one
            other = Run.open(folder)
            alike = other.read_state() == "finished" and _but_for_the_seed(other.config) == own
            if alike and other.config["seed"] != run.config["seed"]:
                siblings.append(other)
    return siblings


def _but_for_the_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Relevant configuration without the seed and keys that repeat it, such as ``data.seed``.

    That of data which are made from it is kept: with another one, there are other features to find.
    """
    relevant = relevant_config(config)
    seed, made = ("seed", relevant.pop("seed")), _is_made_from_seed(config)
    return {
        section: {key: value for key, value in node.items() if (key, value) != seed}
        if isinstance(node, dict) and not (made and section == "data")
        else node
        for section, node in relevant.items()
    }


def _is_made_from_seed(config: Mapping[str, Any]) -> bool:
    return bool(config["data"].get(TARGET) == f"sparse_ae.data.{Synthetic.__name__}")


def _others(subject: Subject, runs: Sequence[Run] | None) -> Sequence[Run]:
    if runs is not None:
        own = subject.run.path.resolve() if subject.run is not None else None
        if any(run.path.resolve() == own for run in runs):
            raise ConfigError("runs", own, "the run itself", "folders of other runs")
        return runs
    siblings = seed_siblings(subject.run) if subject.run is not None else []
    if not siblings:
        beside = f"beside {subject.run.shown_path}" if subject.run is not None else "beside a coder without a run"
        made = subject.run is not None and _is_made_from_seed(subject.run.config)
        hint = " (data.seed=0 gives all runs the same true features)" if made else ""
        reason = f"no finished run {beside} differs from it in the seed alone{hint}; train another seed first"
        raise ConfigError("runs", "null", reason, "folders of finished runs")
    return siblings


def _compare(atoms: _Atoms, run: Run, subject: Subject, rows: Tensor) -> _Pair:
    model, dimensions = load(run).to(subject.sample.x.device), atoms.vectors.shape[1]
    if (dim := model.input_dim) != dimensions:
        raise ConfigError("runs", run.path, f"takes {dim} values per sample", f"runs that take {dimensions}")
    other = _atoms(Subject(model, subject.sample))
    unmatched = cosines_between(*(each.vectors[evenly_spread(len(each.unit), _MOST_PAIRED)] for each in (atoms, other)))
    generator = torch.Generator().manual_seed(0)
    random = [torch.randn(each.vectors.shape, generator=generator) for each in (atoms, other)]
    drawn = rows[torch.randperm(len(rows), generator=generator)[: len(other.vectors)]]
    nulls = {
        "unmatched": unmatched,
        "random": match_atoms(*random).cosine,
        "sample": match_atoms(atoms.vectors, drawn).cosine,
    }
    name = run.path.resolve().name
    matching = match_atoms(atoms.vectors, other.vectors)
    return _Pair(name, other, matching, {null: np.abs(values).ravel() for null, values in nulls.items()})


def _atoms(subject: Subject) -> _Atoms:
    dead = subject.dead
    unit = (~dead & subject.directions.any(dim=1)).nonzero().flatten()
    return _Atoms(len(dead), int(dead.sum()), unit, subject.directions[unit])


def _measures(pair: _Pair, high_cosine: float) -> dict[str, float | None]:
    """Measures of one pair, by the names of ``Numbers``."""
    matched = np.abs(pair.matching.cosine)
    return {
        "matched_cosine": float(matched.mean()) if len(matched) else None,
        "matched_cosine_median": float(np.median(matched)) if len(matched) else None,
        "high_cosine_share": float((matched > high_cosine).mean()) if len(matched) else None,
        **{f"{name}_cosine": float(null.mean()) if len(null) else None for name, null in pair.nulls.items()},
        **{
            f"{name}_high_share": float((null > high_cosine).mean()) if len(null) else None
            for name, null in pair.nulls.items()
        },
    }


def _curves(pairs: Sequence[_Pair], high_cosine: float, mean: float | None, *, noun: str) -> Figure:
    """|Cosines| of matched atoms, largest first, by the name of the other run, in front of the nulls."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    for (null, text), line in zip(_NULLS.items(), ("--", "-.", ":"), strict=True):
        for pair in pairs:
            axes.plot(
                *_sorted(pair.nulls[null]), line, color=GREY, linewidth=1.2, label=f"null: {text.format(noun=noun)}"
            )
    cosines = {pair.name: np.abs(pair.matching.cosine) for pair in pairs}
    for name, look in looks(list(cosines)).items():
        axes.plot(*_sorted(cosines[name]), "-", color=look.colour, linewidth=1.8, label=name)
    axes.axhline(high_cosine, color="black", linewidth=0.8, label=f"high: above {high_cosine:g}")
    if not any(map(len, cosines.values())):
        note(axes, "nothing to match")
    axes.set(xlabel="share of pairs, best first", ylabel="|cosine| of a pair", xlim=(0, 1), ylim=(0, 1.02))
    title = "Atoms matched one to one" + ("" if mean is None else f": mean |cosine| {mean:.3f}")
    finish(figure, title, columns=3)
    return figure


def _sorted(values: Array) -> tuple[Array, Array]:
    """Shares of the values and their sizes, largest first; a few hundred of very many."""
    largest_first = np.sort(values)[::-1]
    shares = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    every = -(-len(values) // _CURVE_POINTS) or 1
    return shares[::every], largest_first[::every]


def _strips(subject: Subject, atoms: _Atoms, pair: _Pair, n_pairs: int) -> Figure:
    """The best, median and worst pairs side by side, this run's atoms above the other's."""
    matching, count = pair.matching, len(pair.matching.cosine)
    middle = max(0, (count - n_pairs) // 2)
    ranges = {
        "best": slice(n_pairs),
        "median": slice(middle, middle + n_pairs),
        "worst": slice(max(0, count - n_pairs), None),
    }
    blocks = []
    for name, chosen in ranges.items():
        first, second = atoms.vectors[matching.first[chosen]], pair.atoms.vectors[matching.second[chosen]]
        pictures, labels = np.stack([subject.images(first), subject.images(second)]), matching.cosine[chosen]
        below = [""] * len(labels) + [f"{cosine:.2f}" for cosine in labels]
        blocks.append(Block(pictures, pictures.shape[1], below=below, name=name, empty="nothing to match"))
    title = f"Matched atoms of this run (above) and of {pair.name} (below), their cosine"
    return mosaic(blocks, title=title, view=subject.view)
