"""Features: each unit's contribution to a reconstruction, its encoder filter, and the samples that activate it most."""

import copy
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from sparse_ae.analysis import contexts
from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.statistics import mean_defined
from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Scale
from sparse_ae.functional import block_rows
from sparse_ae.models import Linear, MLPEncoder, SparseAutoencoder
from sparse_ae.plotting.mosaic import Block, feature_grid, mosaic

Order = Literal["contribution", "lifetime", "index"]
TopUnits = PositiveInt | Annotated[list[NonNegativeInt], Field(min_length=1)]

_ORDERS = {"contribution": "largest contribution first", "lifetime": "most often active first", "index": "by number"}
_JACOBIAN_IMAGES = 256
_UNITS_AT_ONCE = 64
"""Largest number of units whose gradients, one for each sample, are in memory at a time."""


class Units(NamedTuple):
    """Measures of each of N units; NaN for dead ones where a code != 0 is needed."""

    dead: Tensor
    """True for a unit whose code is never != 0, ``(N,)``."""
    lifetime: Tensor
    """Lifetime sparsity ``(N,)``."""
    typical: Tensor
    """Typical activation a_i, ``Subject.typical``, ``(N,)``."""
    difference: Tensor
    """Contribution d_i to the reconstruction at the typical activation, ``Subject.directions``, ``(N, D)``."""
    contribution: Tensor
    """Mean contribution, mean_b |z_bi| |d_i|_2 / a_i, ``(N,)``: the mean norm if the decoder is linear. 0 if dead."""


class Filters(NamedTuple):
    """Encoder filters of n units, on the scale that was trained on: in the data's own unit those of values that hardly
    vary would outweigh all others.
    """

    weight: Tensor
    """Filters ``(n, D)``; NaN for a unit that has none."""
    name: str
    """Kind of filter, for titles."""
    scale: Scale
    """From the data's own unit to that scale."""

    def scaled(self, directions: Tensor) -> Tensor:
        """Map differences of rows ``(n, D)``, such as contributions, to the scale of the filters."""
        scaled: Tensor = self.scale(directions) - self.scale(torch.zeros_like(directions))
        return scaled


class Numbers(NamedTuple):
    """Sizes of atoms and contributions; None where there are too few living units."""

    units: int
    """Number of units."""
    shown: int
    """Number of units in each grid."""
    dead_units: Annotated[int, Label("dead units (code never != 0)")]
    """Number of units whose code is never != 0."""
    atom_norm: dict[str, float] | None
    """Least, mean and largest |atom|_2; an atom is all of decode(e_i) where the decoder is not linear."""
    typical_activation: dict[str, float] | None
    """Least, mean and largest typical activation of the living units."""
    difference_norm: dict[str, float] | None
    """Least, mean and largest norm of the contribution of a living unit."""
    half_contribution_units: Annotated[int | None, Label("units that make half of all contributions")]
    """Fewest units that make half of the sum of all contributions."""
    filter_cosine: Annotated[float | None, Label("cosine of encoder filter and contribution of a unit")]
    """Cosine between encoder filter and contribution, mean over the units shown."""


def analyse(
    subject: Subject,
    *,
    n_features: PositiveInt = 64,
    order: Order = "contribution",
    top_units: TopUnits = 8,
    top_images: PositiveInt = 8,
) -> Result:
    """Units decoded alone, their encoder filters, and the samples that activate them most, as text in their contexts.

    See ``Units`` for a unit's typical activation, difference and contribution, ``Numbers`` for the results.

    Arrays: measures of each unit; ``top_images (N, k)``, the samples with its largest codes; of text ``top_tokens
    (N, k)``, their token ids; of the units ``shown (n,)`` their ``differences`` and ``filters (n, D)``. Raises
    ``ConfigError`` for ``top_units`` that the coder does not have.
    """
    units, atoms = measure_units(subject), subject.atoms
    living, sizes = ~units.dead, units.difference.norm(dim=1)
    ranked = _ranked(units, order)
    shown = ranked[:n_features]
    filters = encoder_filters(subject, shown)
    cosines = (
        None if filters is None else F.cosine_similarity(filters.weight, filters.scaled(units.difference[shown]), dim=1)
    )
    codes, samples = subject.codes.top(min(top_images, len(subject.codes)))
    numbers = Numbers(
        units=len(atoms),
        shown=len(shown),
        dead_units=int(units.dead.sum()),
        atom_norm=_range(atoms.norm(dim=1)),
        typical_activation=_range(units.typical[living]),
        difference_norm=_range(sizes[living]),
        half_contribution_units=_units_for_half(units.contribution),
        filter_cosine=None if cosines is None else mean_defined(cosines),
    )
    arrays: dict[str, Tensor] = {
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
    text, documents = subject.sample.text, {}
    if text is None:
        figures["top_images"] = _top_images(subject, units, rows, codes[rows], samples[rows])
    else:
        arrays["top_tokens"] = text.token[samples]
        which = _ORDERS[order] if isinstance(top_units, int) else "those chosen"
        figures["contexts"] = contexts.draw(subject, text, rows, top_images, which=which)
        documents[contexts.DOCUMENT] = contexts.document(subject, text, top_images)
    return Result.of(numbers, figures, {name: values.numpy() for name, values in arrays.items()}, documents=documents)


def measure_units(subject: Subject) -> Units:
    """Measure all units, from the codes and from decoding each unit alone."""
    dead = subject.dead
    typical = subject.typical.masked_fill(dead, torch.nan)
    difference = subject.directions.masked_fill(dead[:, None], torch.nan)
    size = subject.codes.per_unit(lambda z: z.abs().mean(dim=0))
    contribution = (size * difference.norm(dim=1) / typical).masked_fill(dead, 0)
    return Units(dead, subject.lifetime, typical, difference, contribution)


def encoder_filters(subject: Subject, units: Tensor) -> Filters | None:
    """Filters of ``units (n,)``: rows of the linear layer that reads the scaled data x, W_e (the atoms, if tied).

    Where a perceptron reads them, dz_i/dx, mean over some samples, evenly spread. None unless the coder is a trained
    autoencoder, and of one whose encoder is a search.
    """
    coder = subject.coder
    if not isinstance(coder, SparseAutoencoder) or coder.network.sets_sparsity:
        return None
    network, scale = coder.network, copy.deepcopy(coder.scale).cpu()
    if isinstance(network, Linear) and not isinstance(network, MLPEncoder):
        weight = network.atoms if network.encoder_weight is None else network.encoder_weight
        filters, name = weight.detach()[units.to(weight.device)], "rows of W_e"
    else:
        x = subject.sample.x
        spread = torch.linspace(0, len(x) - 1, block_rows(network.latent_dim, min(_JACOBIAN_IMAGES, len(x)))).long()
        filters = mean_jacobian(coder.encode_rows, coder.scale(x[spread.to(x.device)]), units.to(x.device))
        name = f"mean dz_i/dx over {len(spread)} test {subject.noun}s, crossed if 0"
    filters = filters.float().cpu()
    is_scaled = any(True for _ in scale.buffers())
    name += ", of data as scaled for training" if is_scaled else ""
    return Filters(filters.masked_fill((filters == 0).all(dim=1, keepdim=True), torch.nan), name, scale)


def mean_jacobian(encode: Callable[[Tensor], Tensor], x: Tensor, units: Tensor) -> Tensor:
    """mean_b dz_bi/dx_b for the codes i in ``units (n,)`` of data ``x (B, D)``, ``(n, D)``.

    Computed as d/ds mean_b z_bi(x_b + s) at s = 0, which is equal as long as no code depends on another sample.
    """

    def mean_codes(shift: Tensor) -> Tensor:
        return encode(x + shift).mean(dim=0)[units]

    at_once = block_rows(len(x) * encode(x[:1]).shape[1], _UNITS_AT_ONCE)
    jacobian: Tensor = torch.func.jacrev(mean_codes, chunk_size=at_once)(torch.zeros_like(x[0]))
    return jacobian.detach()


def _ranked(units: Units, order: Order) -> Tensor:
    """All units in ``order``; dead ones are last, unless units are ordered by number."""
    if order == "index":
        return torch.arange(len(units.dead))
    measure = units.contribution if order == "contribution" else units.lifetime
    return measure.masked_fill(units.dead, -1).argsort(descending=True, stable=True)


def _rows(top_units: TopUnits, ranked: Tensor) -> Tensor:
    """Units to show with their samples: the first ``top_units``, or the ones named."""
    if isinstance(top_units, int):
        return ranked[:top_units]
    if max(top_units) >= len(ranked):
        raise ConfigError("top_units", top_units, "not units of the coder", f"0 to {len(ranked) - 1}")
    return torch.tensor(top_units)


def _grids(subject: Subject, units: Units, shown: Tensor, filters: Filters | None, *, which: str) -> dict[str, Figure]:
    """Grids of the atoms, contributions and filters of the units ``shown``; none of text, whose contexts say more."""
    if not subject.has_pictures:
        return {}
    dead, atoms, difference = units.dead[shown, None], subject.atoms[shown], units.difference[shown]
    if subject.is_linear:
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
            view=subject.view,
            signed=name != "features",
        )
        for name, (title, flat) in pictures.items()
    }


def _top_images(subject: Subject, units: Units, rows: Tensor, codes: Tensor, samples: Tensor) -> Figure:
    """A row for each unit of ``rows (n,)``: its contribution, and its ``samples (n, k)`` with ``codes`` > 0."""
    shown = subject.images(subject.x[samples].masked_fill(codes[:, :, None] <= 0, torch.nan).flatten(0, 1))
    shown = shown.reshape(*samples.shape, *shown.shape[1:])
    pictures = np.concatenate([subject.images(units.difference[rows])[:, None], shown], axis=1)
    texts = _codes(codes) if subject.label is None else _classes_and_codes(subject.label[samples], codes)
    below = [text for i, own in zip(rows.tolist(), texts, strict=True) for text in (_name(units, i), *own)]
    title = (
        f"What units add to a reconstruction, and the test {subject.noun}s that activate them most\n"
        f"below: unit number and lifetime sparsity; {'code' if subject.label is None else 'class (code)'}"
    )
    return mosaic([Block(pictures, atoms=1, below=below)], title=title, view=subject.view, signed=True)


def _codes(codes: Tensor) -> list[list[str]]:
    return [[f"{code:.2g}" if code > 0 else "" for code in row] for row in codes.tolist()]


def _classes_and_codes(label: Tensor, codes: Tensor) -> list[list[str]]:
    return [
        [f"{c} ({code})" if code else "" for c, code in zip(classes, row, strict=True)]
        for classes, row in zip(label.tolist(), _codes(codes), strict=True)
    ]


def _name(units: Units, i: int) -> str:
    return f"{i}: dead" if units.dead[i] else f"{i}: {float(units.lifetime[i]):.2g}"


def _range(values: Tensor) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}


def _units_for_half(contribution: Tensor) -> int | None:
    total = contribution.sort(descending=True).values.double().cumsum(dim=0)
    return int((total < total[-1] / 2).sum()) + 1 if total[-1] > 0 else None
