"""Gabor functions fitted to what units add: are atoms oriented, localised and band-pass?"""

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.features import encoder_filters
from sparse_ae.analysis.gabor_fit import Gabors, fit_gabors
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import BLUE, GREY, Array

Share = Annotated[float, Field(gt=0, lt=1)]

_WIDEST = 0.25
"""Largest size of an envelope that counts as local, as a share of the shorter side."""
_BINS = 25


class Numbers(NamedTuple):
    """Fits to the living units; medians are of the Gabor-like ones, and None without any."""

    units: int
    """Number of units fitted: those that are not dead, at most ``n_units`` of them."""
    gabor_share: Annotated[float | None, Label("share of atoms that are Gabor-like")]
    """Share of units whose fit has ``r2`` or more, is band-pass, and local."""
    fitted_share: Annotated[float | None, Label("share of atoms with a good Gabor fit")]
    """Share of units whose fit has ``r2`` or more."""
    median_r2: Annotated[float | None, Label("median R^2 of Gabor fits")]
    """Median R^2 of all fits."""
    random_gabor_share: float | None
    """Value of ``gabor_share`` for as many pictures of white noise."""
    random_median_r2: float | None
    """Value of ``median_r2`` for these."""
    frequency: Annotated[float | None, Label("median frequency of Gabor-like atoms (cycles per pixel)")]
    """Median frequency in cycles per pixel."""
    bandwidth: float | None
    """Median bandwidth at half height in octaves."""
    size: Annotated[float | None, Label("median size of Gabor-like atoms (pixels)")]
    """Median of sqrt(s_u s_v), the standard deviation of the envelope in pixels."""
    aspect: float | None
    """Median of s_v / s_u, the length of the stripes over the width across them."""
    orientations: Annotated[float | None, Label("spread of orientations (1: even)")]
    """Entropy of the orientations in eight bins, over log 8."""
    r2: float
    """The option."""


def analyse(
    subject: Subject,
    *,
    of: Literal["contributions", "filters"] = "contributions",
    r2: Share = 0.8,
    n_units: PositiveInt = 256,
    n_shown: PositiveInt = 64,
) -> Result:
    """Fit a Gabor function to what each unit adds to a reconstruction, or to its encoder filter.

    A unit is Gabor-like if its fit explains ``r2`` of its sum of squares, has no response at half height to the
    frequency 0, and has an envelope whose size sqrt(s_u s_v) is at most a quarter of the side: an edge through the
    whole picture is local, a grating is not. White noise, fitted in the same way, is the null.

    Arrays: per unit fitted, ``unit (n,)`` and the fields of ``Gabors``. Raises ``ConfigError`` for rows that are no
    images, and for the encoder filters of a classical coder.
    """
    if len(subject.sample.shape) != 3:
        raise ConfigError("data.input_shape", reason="gabor fits images, and the rows are vectors", expected="[H, W]")
    living = (~subject.dead).nonzero()[:, 0]
    unit = living[torch.linspace(0, len(living) - 1, min(n_units, len(living))).long()]
    pictures = _vectors(subject, unit, of).float().cpu().reshape(-1, *subject.sample.shape).mean(dim=1)  # grey
    generator = torch.Generator().manual_seed(0)
    both = fit_gabors(torch.cat([pictures, torch.randn(pictures.shape, generator=generator)]))
    gabors, null = (Gabors(*(values[part] for values in both)) for part in (slice(len(unit)), slice(len(unit), None)))
    is_gabor = gabor_like(gabors, r2)
    numbers = Numbers(
        units=len(unit),
        gabor_share=_mean(is_gabor),
        fitted_share=_mean(gabors.r2 >= r2),
        median_r2=_median(gabors.r2),
        random_gabor_share=_mean(gabor_like(null, r2)),
        random_median_r2=_median(null.r2),
        frequency=_median(gabors.frequency[is_gabor]),
        bandwidth=_median(gabors.bandwidth[is_gabor]),
        size=_median((gabors.across * gabors.along).sqrt()[is_gabor]),
        aspect=_median((gabors.along / gabors.across)[is_gabor]),
        orientations=_evenness(gabors.orientation[is_gabor]),
        r2=r2,
    )
    figures = {
        "gabor": _pairs(pictures, gabors, unit, n_shown),
        "gabor_parameters": _parameters(gabors, is_gabor, null.r2.numpy(), r2),
    }
    arrays = {"unit": unit, **gabors._asdict(), "bandwidth": gabors.bandwidth}
    return Result.of(numbers, figures, {name: values.numpy() for name, values in arrays.items()})


def gabor_like(gabors: Gabors, r2: float) -> Tensor:
    """True for a good fit that is band-pass and local, ``(n,)``."""
    widest = _WIDEST * min(gabors.fit.shape[1:])
    local = (gabors.across * gabors.along).sqrt() <= widest
    return (gabors.r2 >= r2) & gabors.bandwidth.isfinite() & local


def _vectors(subject: Subject, unit: Tensor, of: str) -> Tensor:
    if of == "contributions":
        return subject.directions[unit]
    filters = encoder_filters(subject, unit)
    if filters is None:
        raise ConfigError("of", of, "a classical coder has no encoder filters", "contributions")
    return filters.weight.nan_to_num()


def _evenness(orientation: Tensor) -> float | None:
    """Entropy over eight bins of orientations in [0, pi), the first centred on horizontal, divided by log 8."""
    if len(orientation) == 0:
        return None
    share = torch.bincount((orientation * 8 / torch.pi).round().long() % 8, minlength=8) / len(orientation)
    return float(torch.special.entr(share).sum() / math.log(8))


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _median(values: Tensor) -> float | None:
    return float(values.median()) if len(values) else None


def _pairs(pictures: Tensor, gabors: Gabors, unit: Tensor, n_shown: int) -> Figure:
    """Pictures and their fits side by side, from the best fit to the worst."""
    order = gabors.r2.argsort(descending=True, stable=True)
    shown = order[torch.linspace(0, len(order) - 1, min(n_shown, len(order))).long()]
    below = [f"{int(unit[i])}: {float(gabors.r2[i]):.2f}" for i in shown]
    blocks = [
        _grid(pictures[shown].numpy(), "what units add", below),
        _grid(gabors.fit[shown].numpy(), "Gabor functions", below),
    ]
    chosen = "all" if len(shown) == len(order) else f"{len(shown)} evenly spread"
    title = f"Gabor functions fitted to {len(order)} units, {chosen}, best fit first\nbelow: number and R^2"
    return mosaic(blocks, title=title, signed=True)


def _grid(images: Array, name: str, below: list[str]) -> Block:
    columns = max(math.ceil(math.sqrt(len(images))), 1)
    rows = math.ceil(len(images) / columns)
    table = np.full((rows * columns, *images.shape[1:]), np.nan)
    table[: len(images)] = images
    return Block(table.reshape(rows, columns, *images.shape[1:]), atoms=columns, below=below, name=name)


def _parameters(gabors: Gabors, is_gabor: Tensor, null: Array, r2: float) -> Figure:
    """Orientation and frequency of Gabor-like units, and R^2 of all beside that of white noise."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    polar = figure.add_subplot(1, 2, 1, projection="polar")
    assert isinstance(polar, PolarAxes)
    polar.set_thetalim(0, math.pi)
    polar.set_rlim(0, 0.5)
    area = 6 * (gabors.across * gabors.along)[is_gabor]
    polar.scatter(gabors.orientation[is_gabor], gabors.frequency[is_gabor], s=area, color=BLUE, alpha=0.5, linewidth=0)
    polar.set_title("stripes of Gabor-like units: direction, cycles per pixel\narea: area of the envelope", fontsize=10)
    axes = figure.add_subplot(1, 2, 2)
    bins = np.linspace(0, 1, _BINS + 1).tolist()
    axes.hist(gabors.r2.numpy(), bins, color=BLUE, alpha=0.8, label="units")
    axes.hist(null, bins, histtype="step", color=GREY, label="white noise")
    axes.axvline(r2, color=GREY, linestyle=":")
    axes.set(xlabel="R^2 of the Gabor fit", ylabel="number", xlim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
