"""Robustness: effect of noise in the input on the codes, and on the reconstruction of the clean sample."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import LISTED, NOT_EMPTY, FinishedRun, Label, Result, Subject
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import (
    distance,
    mean_defined,
    partners,
    ratio,
    sample_errors,
    stratified,
    support_change,
    variances,
)
from sparse_ae.coders import PCA
from sparse_ae.config.errors import ConfigError
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.pictures import View
from sparse_ae.plotting.style import GREY, Array, Look, finish, looks
from sparse_ae.run.directory import Run
from sparse_ae.run.export import load

Sigma = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

_INPUT = "the noisy input"
_AXES = {"gaussian": "Gaussian noise: standard deviation", "salt_and_pepper": "salt and pepper: share of values"}
_COLUMNS = {"gaussian": r"$\sigma$ = {:g}", "salt_and_pepper": "s&p {:.0%}"}
_IN_UNITS_OF_THE_DATA = "Gaussian noise: SD / SD of the data"
_PANELS = {
    "code_change": "relative change of the code",
    "support_change": "units changed (1 - Jaccard)",
    "clean_mse": "MSE to the clean {noun}",
}


class Response(NamedTuple):
    """Response of a coder to noise of one strength; None where undefined."""

    code_change: float | None
    """mean |z(x + n) - z(x)| over the mean distance |z(x') - z(x)| of the codes of two clean samples."""
    code_gain: float | None
    """``code_change`` divided by the relative change of the input."""
    support_change: float | None
    """1 - the Jaccard similarity of the sets of active units, |z| > threshold, over samples that have any."""
    clean_mse: float
    """MSE between the clean sample and the reconstruction from the noisy one."""
    clean_fvu: float | None
    """Squared error of that reconstruction over the variance around the mean training sample."""


class Answer(NamedTuple):
    """Responses of one coder to all noise."""

    empty_codes: int
    """Number of samples whose clean code is all 0."""
    support_change_between_samples: float | None
    """``support_change`` between clean samples: dense codes never change as much as sparse ones."""
    responses: dict[str, list[Response]]
    """Responses by kind of noise, one for each strength."""


class Numbers(NamedTuple):
    """Responses of the subject, each a mean over the strengths above 0, and those of all coders."""

    gaussian_code_change: Annotated[float | None, Label("Gaussian noise: code change (1: as between samples)")]
    """``Response.code_change`` under Gaussian noise."""
    gaussian_code_gain: float | None
    """``Response.code_gain`` under Gaussian noise."""
    gaussian_support_change: Annotated[float | None, Label("Gaussian noise: active units that change (1 - Jaccard)")]
    """``Response.support_change`` under Gaussian noise."""
    gaussian_clean_mse: float | None
    """``Response.clean_mse`` under Gaussian noise."""
    gaussian_clean_fvu: Annotated[float | None, Label("Gaussian noise: FVU of the clean sample")]
    """``Response.clean_fvu`` under Gaussian noise."""
    salt_and_pepper_code_change: Annotated[float | None, Label("salt and pepper: code change (1: as between samples)")]
    """``Response.code_change`` under salt and pepper."""
    salt_and_pepper_code_gain: float | None
    """``Response.code_gain`` under salt and pepper."""
    salt_and_pepper_support_change: Annotated[
        float | None, Label("salt and pepper: active units that change (1 - Jaccard)")
    ]
    """``Response.support_change`` under salt and pepper."""
    salt_and_pepper_clean_mse: float | None
    """``Response.clean_mse`` under salt and pepper."""
    salt_and_pepper_clean_fvu: Annotated[float | None, Label("salt and pepper: FVU of the clean sample")]
    """``Response.clean_fvu`` under salt and pepper."""
    samples: int
    """Number of samples, stratified by class."""
    empty_codes: int
    """Number of samples whose clean code is all 0."""
    support_change_between_samples: float | None
    """``support_change`` between clean samples."""
    strength: dict[str, list[float]]
    """Strengths by kind of noise."""
    gaussian_unit: float
    """Standard deviation of Gaussian noise of strength 1: 1 for pixels in [0, 1], else that of the data."""
    coders: dict[str, dict[str, Any]]
    """``Answer`` of each coder."""


def analyse(
    subject: Subject,
    *,
    sigmas: Annotated[Sequence[Sigma], NOT_EMPTY] = (0, 0.05, 0.1, 0.2, 0.3, 0.4),
    shares: Annotated[Sequence[Share], NOT_EMPTY] = (0, 0.02, 0.05, 0.1, 0.2, 0.3),
    clamp: bool = True,
    n_samples: PositiveInt = 2000,
    against: Annotated[Sequence[FinishedRun], LISTED] = (),
    pca: bool = True,
    n_images: PositiveInt = 2,
) -> Result:
    """Gaussian noise, and salt and pepper, the same for every coder.

    The unit of ``sigmas`` is that of the pixels if these are in [0, 1], to which noisy images are then cut with
    ``clamp``. For all other data it is their standard deviation, the root mean squared distance of a value from the
    mean training sample, so that the noise of sigma = 1 has the energy of the data. Salt and pepper are the ends of the
    range that pictures are drawn in, ``View``.

    Coders are the subject, the runs ``against`` which it is held, with ``pca`` PCA with min(N, D) components, and the
    data as their own code. See ``Numbers`` for the results. Raises ``ConfigError`` for a run of data of another size.
    """
    index, view = stratified(subject.strata, n_samples), subject.view
    x, variance = subject.x[index], variances(subject, index)
    unit = 1.0 if view.is_unit else float((variance.mean() / x.shape[1]).sqrt())
    strength = {"gaussian": list(sigmas), "salt_and_pepper": list(shares)}
    noisy = {
        "gaussian": gaussian(x, [unit * sigma for sigma in sigmas], clamp=clamp and view.is_unit),
        "salt_and_pepper": salt_and_pepper(x, shares, view.low, view.high),
    }
    coders = _coders(subject, against, pca=pca)
    answers = {name: _answer(coder, x, noisy, variance) for name, coder in coders.items()}
    own = next(iter(answers.values()))
    means = {kind: _means(own.responses[kind], strength[kind]) for kind in strength}
    numbers = Numbers(
        **{f"{kind}_{field}": mean for kind, fields in means.items() for field, mean in fields.items()},
        samples=len(index),
        empty_codes=own.empty_codes,
        support_change_between_samples=own.support_change_between_samples,
        strength=strength,
        gaussian_unit=unit,
        coders={name: _plain(given) for name, given in answers.items()},
    )
    columns = [_COLUMNS[kind].format(value) for kind, values in strength.items() for value in values]
    title = f"Noise in the input: means over {len(index):,} test {subject.noun}s"
    figures = {"robustness": _panels(answers, strength, title=title, noun=subject.noun, in_pixels=view.is_unit)}
    if subject.has_pictures:
        shown = stratified(subject.strata[index], n_images)
        strip = torch.stack([rows[shown] for row in noisy.values() for rows in row])
        figures["strip"] = _strip(coders, strip, columns, view)
    return Result.of(numbers, figures)


def gaussian(x: Tensor, sigmas: Sequence[float], *, clamp: bool) -> list[Tensor]:
    """x + sigma n with one n ~ N(0, 1) for all ``sigmas``; with ``clamp`` cut to [0, 1]."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noisy = [x + sigma * noise for sigma in sigmas]
    return [rows.clamp(0, 1) for rows in noisy] if clamp else noisy


def salt_and_pepper(x: Tensor, shares: Sequence[float], low: float = 0.0, high: float = 1.0) -> list[Tensor]:
    """x with a share of its values replaced by ``low`` or ``high``, equally likely; a larger share includes a smaller
    one.
    """
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(x.shape, generator=generator)
    grain = low + (high - low) * torch.randint(2, x.shape, generator=generator).to(x.dtype)
    return [torch.where(chance < share, grain, x) for share in shares]


class _Identity:
    """Coder whose code is its input: the noise that remains if a coder does nothing about it."""

    def __init__(self, dim: int) -> None:
        self.dictionary = torch.eye(dim)

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


def _coders(subject: Subject, against: Sequence[Run], *, pca: bool) -> dict[str, Subject]:
    """Every coder by name, the subject first."""
    sample, (units, size) = subject.sample, subject.atoms.shape
    coders = {subject.run.path.resolve().name if subject.run else "this coder": subject}
    for run in against:
        model = load(run).to(sample.x.device)
        if (dim := model.input_dim) != size:
            raise ConfigError("against", run.path, f"takes {dim} values per sample", f"runs that take {size}")
        name = run.path.resolve().name
        coders[str(run.path) if name in coders else name] = Subject(model, sample)
    on_cpu = sample._replace(x=sample.x.cpu())
    if pca:
        components = min(units, size)
        coders[f"PCA, {components} components"] = Subject(PCA(components).fit(sample.train_rows().float()), on_cpu)
    return coders | {_INPUT: Subject(_Identity(size), on_cpu)}


def _answer(coder: Subject, x: Tensor, noisy: Mapping[str, Sequence[Tensor]], variance: Tensor) -> Answer:
    """Answer to the ``noisy`` versions, by kind and strength, of data ``x (B, D)``, whose ``variance (B,)`` around the
    mean training sample is given.
    """
    z, other = coder.encode(x), partners(len(x))
    distances = z.per_sample(distance, z.take(other)).mean(), distance(x, x[other]).mean()
    return Answer(
        int((z.counts == 0).sum()),
        mean_defined(_support_changes(coder, z, z.take(other))) if len(z) > 1 else None,
        {kind: [_respond(coder, x, z, rows, variance, distances) for rows in row] for kind, row in noisy.items()},
    )


def _respond(
    coder: Subject, x: Tensor, z: Codes, noisy: Tensor, variance: Tensor, distances: tuple[Tensor, Tensor]
) -> Response:
    """Response to a ``noisy`` version of ``x``, whose code is ``z``; ``distances`` are those between two samples, of
    their codes and of themselves.
    """
    noisy_z = coder.encode(noisy)
    code = ratio(z.per_sample(distance, noisy_z).mean(), distances[0])
    data = ratio(distance(x, noisy).mean(), distances[1])
    errors = sample_errors(coder.decode(noisy_z), x)
    return Response(
        code_change=code,
        code_gain=None if code is None or data is None else ratio(code, data),
        support_change=mean_defined(_support_changes(coder, z, noisy_z)),
        clean_mse=float(errors.mean()) / x.shape[1],
        clean_fvu=ratio(errors.sum(), variance.sum()),
    )


def _support_changes(coder: Subject, a: Codes, b: Codes) -> Tensor:
    return a.per_sample(partial(support_change, threshold=coder.sample.threshold), b)


def _means(responses: Sequence[Response], strength: Sequence[float]) -> dict[str, float | None]:
    """Mean of each field over the strengths above 0."""
    noisy = np.array(strength) > 0
    return {field: mean_defined(_values(responses, field)[noisy]) for field in Response._fields}


def _plain(answer: Answer) -> dict[str, Any]:
    """Plain values for JSON."""
    responses = {kind: [response._asdict() for response in row] for kind, row in answer.responses.items()}
    return {**answer._asdict(), "responses": responses}


def _values(responses: Sequence[Response], field: str) -> Array:
    """One field of all responses, NaN where it is None."""
    return np.array([getattr(response, field) for response in responses], dtype=float)


def _panels(
    answers: Mapping[str, Answer], strength: Mapping[str, Sequence[float]], *, title: str, noun: str, in_pixels: bool
) -> Figure:
    """A row of panels for each kind of noise: change of codes, change of supports, error to the clean sample."""
    figure = Figure(figsize=(11, 0.9 + 3 * len(strength)), layout="constrained")
    styles = {**looks([name for name in answers if name != _INPUT]), _INPUT: Look(GREY, "", ":")}
    rows = figure.subplots(len(strength), len(_PANELS), squeeze=False)
    for panels, (kind, values) in zip(rows, strength.items(), strict=True):
        for axes, (field, ylabel) in zip(panels, _PANELS.items(), strict=True):
            for name, answer in answers.items():
                y, look = _values(answer.responses[kind], field), styles[name]
                axes.plot(values, y, look.line, marker=look.marker, markersize=4.5, color=look.colour, label=name)
            is_relative = kind == "gaussian" and not in_pixels
            axes.set(xlabel=_IN_UNITS_OF_THE_DATA if is_relative else _AXES[kind], ylabel=ylabel.format(noun=noun))
            axes.set_ylim(bottom=0)
        _mark_between_samples(panels[1], answers, styles, noun)
    finish(figure, title, columns=2)
    return figure


def _mark_between_samples(axes: Axes, answers: Mapping[str, Answer], styles: Mapping[str, Look], noun: str) -> None:
    """Mark each coder's change of supports between samples by a dash at the right edge."""
    for name, answer in answers.items():
        if (level := answer.support_change_between_samples) is not None:
            place = axes.get_yaxis_transform()
            axes.plot([0.96, 1.0], [level] * 2, color=styles[name].colour, linewidth=2.5, transform=place)
    axes.set_ylim(0, 1.02)
    axes.set_title(f"dashes: between different {noun}s", fontsize=9, loc="right")


def _strip(coders: Mapping[str, Subject], noisy: Tensor, columns: Sequence[str], view: View) -> Figure:
    """For each of n samples ``(strengths, n, D)`` a row of noisy inputs, and a row of reconstructions per coder."""
    names = sorted(coders, key=lambda name: name != _INPUT)
    flat, (strengths, n, _) = noisy.flatten(0, 1), noisy.shape
    outputs = torch.stack([coders[name].decode(coders[name].encode(flat)) for name in names])
    rows = outputs.reshape(len(names), strengths, n, -1).permute(2, 0, 1, 3)  # n, coders, strengths, D
    pictures = view.pictures(rows.flatten(0, 2).numpy())
    block = Block(pictures.reshape(-1, strengths, *pictures.shape[1:]), rows=names * n, columns=columns)
    title = "Noisy inputs, and what each coder makes of them"
    unit = "" if view.is_unit else "\n$\\sigma$ in standard deviations of the data"
    return mosaic([block], title=title + unit, view=view)
