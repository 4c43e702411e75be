"""What each unit stands for: what it adds to a reconstruction, what it looks for, and the images it answers to."""

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.analysis.filters import Filters, encoder_filters
from sparse_ae.functional import lifetime_sparsity
from sparse_ae.plotting import feature_grid, top_image_rows

Order = Literal["contribution", "lifetime", "index"]
TopUnits = PositiveInt | Annotated[list[NonNegativeInt], Field(min_length=1)]

_ORDERS = {"contribution": "largest contribution first", "lifetime": "most often active first", "index": "by number"}


class Units(NamedTuple):
    """What is known of each of N units; NaN for dead ones where that takes a code != 0."""

    dead: Tensor
    """Whether its code is never != 0, ``(N,)``."""
    lifetime: Tensor
    """Lifetime sparsity ``(N,)``."""
    typical: Tensor
    """``Subject.typical``, ``(N,)``."""
    difference: Tensor
    """What it adds at that, d_i, ``Subject.directions``, ``(N, D)``."""
    contribution: Tensor
    """mean_b |z_bi| |d_i|_2 / a_i, ``(N,)``: with a linear decoder the mean norm of what it adds. 0 for dead units."""


def analyse(
    subject: Subject, *, n_features: PositiveInt, order: Order, top_units: TopUnits, top_images: PositiveInt
) -> Result:
    """Units decoded alone, their encoder filters, and the images that activate them most.

    See ``Units`` for a unit's typical activation, difference and contribution. Numbers, None where there are too few
    living units for them:

    - ``units``, ``shown``, ``dead_units``.
    - ``atom_norm``: least, mean and largest |atom|_2; where the decoder is not linear, an atom is all of decode(e_i).
    - ``typical_activation``, ``difference_norm``: least, mean and largest.
    - ``half_contribution_units``: the fewest units that make half of the sum of all contributions.
    - ``filter_cosine``: between encoder filter and difference, mean over the units shown.

    Arrays: measures of each unit; ``top_images (N, k)``, the samples with its largest codes; of the units ``shown
    (n,)`` their ``differences`` and ``filters (n, D)``.
    """
    units, atoms = measure_units(subject), subject.atoms
    living, sizes = ~units.dead, units.difference.norm(dim=1)
    ranked = _ranked(units, order)
    shown = ranked[:n_features]
    filters = encoder_filters(subject, shown)
    codes, samples = (top.T for top in subject.z.topk(min(top_images, len(subject.z)), dim=0))
    numbers = {
        "units": len(atoms),
        "shown": len(shown),
        "dead_units": int(units.dead.sum()),
        "atom_norm": _range(atoms.norm(dim=1)),
        "typical_activation": _range(units.typical[living]),
        "difference_norm": _range(sizes[living]),
        "half_contribution_units": _units_for_half(units.contribution),
        "filter_cosine": None if filters is None else _mean_cosine(filters.weight, units.difference[shown]),
    }
    arrays = {
        "lifetime_sparsity": units.lifetime,
        "typical_activation": units.typical,
        "difference_norm": sizes,
        "contribution": units.contribution,
        "top_images": samples,
        "shown": shown,
        "differences": units.difference[shown],
    } | ({} if filters is None else {"filters": filters.weight})
    figures = _grids(subject, units, shown, filters, which=f"{len(shown)} of {len(atoms)} units, {_ORDERS[order]}")
    rows = _rows(top_units, ranked)
    figures["top_images"] = _top_images(subject, units, rows, codes[rows], samples[rows])
    return Result(numbers, figures, {name: values.numpy() for name, values in arrays.items()})


def measure_units(subject: Subject) -> Units:
    """All of it, from the codes and from decoding each unit alone."""
    z, dead = subject.z, subject.dead
    typical = subject.typical.masked_fill(dead, torch.nan)
    difference = subject.directions.masked_fill(dead[:, None], torch.nan)
    contribution = (z.abs().mean(dim=0) * difference.norm(dim=1) / typical).masked_fill(dead, 0)
    return Units(dead, lifetime_sparsity(z, subject.sample.threshold), typical, difference, contribution)


def _ranked(units: Units, order: Order) -> Tensor:
    """All units, the first in ``order`` first; dead ones are last, unless it is by number."""
    if order == "index":
        return torch.arange(len(units.dead))
    measure = units.contribution if order == "contribution" else units.lifetime
    return measure.masked_fill(units.dead, -1).argsort(descending=True, stable=True)


def _rows(top_units: TopUnits, ranked: Tensor) -> Tensor:
    """The units asked for: the first so many, or the ones named."""
    if isinstance(top_units, int):
        return ranked[:top_units]
    if max(top_units) >= len(ranked):
        raise ValueError(f"analysis.features.top_units={top_units}: the coder has units 0 to {len(ranked) - 1}")
    return torch.tensor(top_units)


def _grids(subject: Subject, units: Units, shown: Tensor, filters: Filters | None, *, which: str) -> dict[str, Figure]:
    """One grid each for what ``shown`` units decode to, what they add, and what they look for."""
    dead, atoms, difference = units.dead[shown, None], subject.atoms[shown], units.difference[shown]
    if _is_linear(units, subject.atoms):
        pictures = {"features": ("Atoms: what each unit adds to a reconstruction", atoms)}
    else:
        adds = "What each unit adds at its typical code a_i: decode(a_i e_i) - decode(0)"
        alone = "What each unit alone decodes to at 1: decode(e_i)"
        pictures = {"features": (alone, atoms), "differences": (adds, difference)}
    if filters is not None:
        pictures["filters"] = (f"Encoder filters: {filters.name}", filters.weight)
    below = "below: number and lifetime sparsity; each on its own scale; crossed: dead or 0"
    return {
        name: feature_grid(
            subject.images(flat.masked_fill(dead, torch.nan)),
            [_name(units, i) for i in shown.tolist()],
            title=f"{title}\n{which}\n{below}",
            signed=name != "features",
        )
        for name, (title, flat) in pictures.items()
    }


def _top_images(subject: Subject, units: Units, rows: Tensor, codes: Tensor, samples: Tensor) -> Figure:
    """For each unit of ``rows (n,)`` what it adds, and its ``samples (n, k)``, those with ``codes`` > 0."""
    images = subject.x[samples].masked_fill(codes[:, :, None] <= 0, torch.nan)
    n, k = samples.shape
    labels = [
        [f"{int(c)} ({code:.2g})" if code > 0 else "" for c, code in zip(subject.label[sample], row, strict=True)]
        for sample, row in zip(samples, codes.tolist(), strict=True)
    ]
    return top_image_rows(
        subject.images(units.difference[rows]),
        subject.images(images.flatten(0, 1)).reshape(n, k, *subject.sample.shape[1:]),
        [[_name(units, i), *own] for i, own in zip(rows.tolist(), labels, strict=True)],
        title="What units add to a reconstruction, and the test images that activate them most\n"
        "below: unit number and lifetime sparsity; class (code)",
    )


def _name(units: Units, i: int) -> str:
    return f"{i}: dead" if units.dead[i] else f"{i}: {float(units.lifetime[i]):.2g}"


def _is_linear(units: Units, atoms: Tensor) -> bool:
    """Whether each difference is a_i atom_i, up to rounding."""
    added = units.difference[~units.dead]
    error = added - (units.typical[:, None] * atoms)[~units.dead]
    return bool(error.norm() <= 1e-3 * added.norm())


def _range(values: Tensor) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}


def _units_for_half(contribution: Tensor) -> int | None:
    total = contribution.sort(descending=True).values.double().cumsum(dim=0)
    return int((total < total[-1] / 2).sum()) + 1 if total[-1] > 0 else None


def _mean_cosine(a: Tensor, b: Tensor) -> float | None:
    """Mean over rows; those with a NaN are left out."""
    cosines = F.cosine_similarity(a, b, dim=1)
    defined = cosines[~cosines.isnan()]
    return float(defined.mean()) if len(defined) else None
