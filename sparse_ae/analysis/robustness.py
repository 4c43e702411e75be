"""Whether codes are stable: what noise in the input does to them, and to the reconstruction of the clean image."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import FinishedRun, Result, Subject
from sparse_ae.analysis.noise import Answer, Response, answer, gaussian, mean_defined, salt_and_pepper
from sparse_ae.analysis.statistics import stratified, variances
from sparse_ae.coders import PCA
from sparse_ae.plotting import NoiseRow, image_table, robustness_panels
from sparse_ae.runs.directory import Run
from sparse_ae.runs.export import load

_INPUT = "the noisy input"
_AXES = {"gaussian": "Gaussian noise: standard deviation", "salt_and_pepper": "salt and pepper: share of values"}
_COLUMNS = {"gaussian": r"$\sigma$ = {:g}", "salt_and_pepper": "s&p {:.0%}"}


Sigma = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def analyse(
    subject: Subject,
    *,
    sigmas: Annotated[list[Sigma], Field(min_length=1)],
    shares: Annotated[list[Share], Field(min_length=1)],
    clamp: bool,
    n_samples: PositiveInt,
    against: list[FinishedRun],
    pca: bool,
    n_images: PositiveInt,
) -> Result:
    """Gaussian noise, with ``clamp`` cut to [0, 1], and salt and pepper, the same for every coder: the subject, the
    runs ``against`` which it is held, with ``pca`` PCA with min(N, D) components, and the image as its own code.

    Numbers: of the subject, by kind of noise, the mean over the strengths above 0 of each field of ``Response``, such
    as ``gaussian_code_change``; ``samples``, stratified by class; its ``empty_codes`` and
    ``support_change_between_images``; ``strength``, by kind of noise; ``coders``, of each the ``Answer``.
    """
    index = stratified(subject.label, n_samples)
    x, variance = subject.x[index], variances(subject, index)
    strength = {"gaussian": sigmas, "salt_and_pepper": shares}
    noisy = {"gaussian": gaussian(x, sigmas, clamp=clamp), "salt_and_pepper": salt_and_pepper(x, shares)}
    coders = _coders(subject, against, pca=pca)
    answers = {name: answer(coder, x, noisy, variance) for name, coder in coders.items()}
    own = next(iter(answers.values()))
    means = {kind: _means(own.responses[kind], strength[kind]) for kind in strength}
    numbers = {
        **{f"{kind}_{field}": mean for kind, fields in means.items() for field, mean in fields.items()},
        "samples": len(index),
        "empty_codes": own.empty_codes,
        "support_change_between_images": own.support_change_between_images,
        "strength": strength,
        "coders": {name: _plain(given) for name, given in answers.items()},
    }
    rows = [_row(kind, values, answers) for kind, values in strength.items()]
    columns = [_COLUMNS[kind].format(value) for kind, values in strength.items() for value in values]
    shown = torch.stack(
        [images[stratified(subject.label[index], n_images)] for row in noisy.values() for images in row]
    )
    title = f"Noise in the input: means over {len(index):,} test images"
    figures = {"robustness": robustness_panels(rows, reference=_INPUT, title=title)}
    return Result(numbers, figures | {"strip": _strip(coders, shown, columns)})


class _Identity:
    """The image as its own code: what is left of the noise where a coder does nothing about it."""

    def __init__(self, dim: int) -> None:
        self.dictionary = torch.eye(dim)

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


def _coders(subject: Subject, against: Sequence[Run], *, pca: bool) -> dict[str, Subject]:
    """Every coder by name, the subject first."""
    sample, (size, units) = subject.sample, (subject.x.shape[1], subject.z.shape[1])
    coders = {subject.run.path.resolve().name if subject.run else "this coder": subject}
    for run in against:
        model = load(run).to(sample.x.device)
        if model.dictionary.shape[1] != size:
            given = f"analysis.robustness.against={run.path}: takes {model.dictionary.shape[1]} values per image"
            raise ValueError(f"{given} (allowed: runs that take {size})")
        name = run.path.resolve().name
        coders[str(run.path) if name in coders else name] = Subject(model, sample)
    on_cpu = sample._replace(x=sample.x.cpu())
    if pca:
        components = min(units, size)
        coders[f"PCA, {components} components"] = Subject(PCA(components).fit(sample.train_images().float()), on_cpu)
    return coders | {_INPUT: Subject(_Identity(size), on_cpu)}


def _means(responses: Sequence[Response], strength: Sequence[float]) -> dict[str, float | None]:
    """Each field's mean over the strengths above 0."""
    noisy = np.array(strength) > 0
    return {field: mean_defined(torch.from_numpy(_values(responses, field)[noisy])) for field in Response._fields}


def _plain(answer: Answer) -> dict[str, object]:
    """For JSON."""
    responses = {kind: [response._asdict() for response in row] for kind, row in answer.responses.items()}
    return {**answer._asdict(), "responses": responses}


def _values(responses: Sequence[Response], field: str) -> np.ndarray:
    """One field, NaN where it is None."""
    return np.array([getattr(response, field) for response in responses], dtype=float)


def _row(kind: str, strength: Sequence[float], answers: Mapping[str, Answer]) -> NoiseRow:
    code, support, mse = (
        {name: _values(given.responses[kind], field) for name, given in answers.items()}
        for field in ("code_change", "support_change", "clean_mse")
    )
    between = {name: given.support_change_between_images for name, given in answers.items()}
    return NoiseRow(_AXES[kind], np.array(strength, dtype=float), code, support, mse, between)


def _strip(coders: Mapping[str, Subject], noisy: Tensor, columns: Sequence[str]) -> Figure:
    """For each of n images ``(strengths, n, D)`` a row of noisy inputs, and one of what each coder makes of them."""
    names = sorted(coders, key=lambda name: name != _INPUT)
    flat, (strengths, n, _) = noisy.flatten(0, 1), noisy.shape
    pictures = np.stack([coders[name].images(coders[name].decode(coders[name].encode(flat))) for name in names])
    height, width = pictures.shape[-2:]
    table = pictures.reshape(len(names), strengths, n, height, width).transpose(2, 0, 1, 3, 4)
    title = "Noisy inputs, and what each coder makes of them"
    return image_table(table.reshape(-1, strengths, height, width), names * n, columns, title=title)
