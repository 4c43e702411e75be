"""Amortisation gap: error of encoding in one pass, against codes that a search finds on the same atoms."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.utils.benchmark import Timer

from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.analysis.codes import Codes
from sparse_ae.analysis.statistics import difference, ratio, sample_errors, stratified, variances
from sparse_ae.coders import OMP
from sparse_ae.coders.omp import Selection, SparseCodes
from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import blocks
from sparse_ae.plotting.mosaic import Block, mosaic
from sparse_ae.plotting.style import LINES, Array, finish, log_positions, looks

_MOST = 256
"""Largest number of codes != 0 of a sample: with more there is nothing to search for, and refitting takes long."""


class Numbers(NamedTuple):
    """Errors and times over ``samples`` of the test split, stratified by class; None where there is no variance."""

    samples: int
    """Number of samples."""
    fvu: Annotated[float | None, Label("FVU of the run's own codes")]
    """FVU of the run's own codes."""
    refitted_fvu: float | None
    """FVU of the run's own supports with coefficients refitted by least squares."""
    omp_fvu: Annotated[float | None, Label("FVU of OMP's codes on the same atoms")]
    """FVU of OMP's codes on the same atoms at the same L0."""
    gap: Annotated[float | None, Label("amortisation gap (difference of the two)")]
    """``fvu - omp_fvu``; below 0 if the encoder searches better than the greedy pursuit."""
    coefficient_gap: float | None
    """``fvu - refitted_fvu``, the share of the gap that is due to coefficients."""
    support_gap: float | None
    """``refitted_fvu - omp_fvu``, the share of the gap that is due to supports."""
    l0: float
    """Codes != 0 per sample of the run, mean."""
    omp_l0: float
    """Codes != 0 per sample of OMP, mean."""
    shared_support: float | None
    """Share of OMP's atoms that the run uses too, mean."""
    encode_seconds: Annotated[float, Label("seconds to encode the sample")]
    """Seconds in which the run encodes all samples, median."""
    omp_encode_seconds: float
    """Seconds in which OMP encodes all samples, median."""


def analyse(
    subject: Subject,
    *,
    n_samples: PositiveInt = 2000,
    selection: Selection = "correlation",
    timed_seconds: PositiveFloat = 1.0,
    n_images: PositiveInt = 8,
) -> Result:
    """FVU(own codes) - FVU(OMP on the own atoms at the same L0): the error due to the encoder, not to the atoms.

    In between stand the run's own supports with coefficients refitted to each sample by least squares: the gap is that
    of the coefficients plus that of the support. OMP uses as many atoms a sample as the run on average, rounded, with
    coefficients of either sign. See ``Numbers`` for the results; ``timed_seconds`` is the least time over which
    encoding is measured.

    Arrays: ``error``, |x_hat - x|^2 ``(coders, samples)``; ``coders``, their names; ``index`` of the samples.
    Raises ``ConfigError`` if the decoder is not linear or a sample has more than 256 codes != 0.
    """
    index = stratified(subject.strata, n_samples)
    x, variance = subject.x[index], variances(subject, index)
    z, atoms, empty = subject.codes.take(index), subject.atoms, subject.empty
    _check(subject, z)
    l0 = float(z.counts.double().mean())
    directed = atoms.any(dim=1).nonzero()[:, 0]  # the atoms of dead units may have become 0
    omp = OMP(atoms[directed], min(max(1, round(l0)), len(directed)), mean=empty, selection=selection)
    search = Subject(omp.to(subject.sample.x.device), subject.sample)
    searched = search.encode(x)
    refitted = refit(x - empty, z, atoms)
    outputs = {
        "own codes": subject.x_hat[index],
        "own support, refitted": refitted @ atoms + empty,
        "OMP, own atoms": searched @ atoms[directed] + empty,
    }
    errors = torch.stack([sample_errors(output, x) for output in outputs.values()])
    fvu, refitted_fvu, omp_fvu = (ratio(error.sum(), variance.sum()) for error in errors)
    shared = searched.per_sample(lambda a, b: ((a != 0) & (b != 0)).sum(dim=1), z.T.take(directed).T)
    numbers = Numbers(
        samples=len(index),
        fvu=fvu,
        refitted_fvu=refitted_fvu,
        omp_fvu=omp_fvu,
        gap=difference(fvu, omp_fvu),
        coefficient_gap=difference(fvu, refitted_fvu),
        support_gap=difference(refitted_fvu, omp_fvu),
        l0=l0,
        omp_l0=float(searched.counts.double().mean()),
        shared_support=ratio(shared.sum(), len(searched.values)),
        encode_seconds=_seconds(partial(_encode, subject, x), timed_seconds),
        omp_encode_seconds=_seconds(partial(_encode, search, x), timed_seconds),
    )
    lines = {
        f"{name}: FVU {'undefined' if share is None else f'{share:.4f}'}": (error / variance.mean()).numpy()
        for name, share, error in zip(outputs, (fvu, refitted_fvu, omp_fvu), errors, strict=True)
    }
    tested = f"{len(index):,} test {subject.noun}s"
    title = f"Own codes and searched ones, the same {len(atoms)} atoms, L0 {l0:.1f}: {tested}"
    figures = {"errors": _error_curves(lines, title=title)}
    if subject.has_pictures:
        figures["reconstructions"] = _strip(subject, index, list(outputs.values()), list(outputs), n_images)
    arrays = {"error": errors.numpy(), "coders": np.array(list(outputs)), "index": index.numpy()}
    return Result.of(numbers, figures, arrays)


def refit(x: Tensor, codes: Codes, atoms: Tensor) -> Codes:
    """argmin |x_b - z_b A|^2 over the coefficients that are not 0 in ``codes (B, N)``; the smallest of several.

    ``x (B, D)``, ``atoms A (N, D)``; computed in float64.
    """
    atom, value = codes.compact()
    k, exact = atom.shape[1], atoms.double()
    for part in blocks(len(x), max(1, k * max(k, atoms.shape[1]))):
        own = exact[atom[part]] * (value[part] != 0)[:, :, None]
        coefficients = torch.linalg.pinv(own @ own.mT, hermitian=True) @ (own @ x[part, :, None].double())
        value[part] = coefficients[:, :, 0].to(value)
    return Codes.from_compact(SparseCodes(atom, value), len(atoms))


def _check(subject: Subject, codes: Codes) -> None:
    if (largest := int(codes.counts.max())) > _MOST:
        raise ConfigError("", reason=f"a sample has {largest} codes != 0", expected=f"up to {_MOST}")
    if not subject.is_linear:
        raise ConfigError("", reason="the decoder is not a dictionary", expected="a run with a linear decoder")


def _encode(subject: Subject, x: Tensor) -> None:
    """Encode ``x (B, D)`` without keeping the codes."""
    for _ in subject.batches(x):
        pass


def _seconds(work: Callable[[], object], at_least: float) -> float:
    """Median seconds of ``work``, measured for ``at_least`` seconds with this process's number of threads."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=at_least).median)


def _error_curves(errors: Mapping[str, Array], *, title: str) -> Figure:
    """Errors ``(n,) >= 0`` of each coder's samples, largest first, on a logarithmic scale."""
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    sizes = {name: np.sort(values)[::-1] for name, values in errors.items()}
    positions = log_positions(axes, "y", np.concatenate(list(sizes.values())))
    places = np.split(positions, np.cumsum([len(values) for values in sizes.values()])[:-1])
    styles = looks(list(sizes))
    for name, place, line in zip(sizes, places, LINES, strict=False):
        axes.plot((np.arange(len(place)) + 0.5) / len(place), place, line, color=styles[name].colour, label=name)
    axes.set(xlabel="share of samples, worst first", ylabel="squared error / mean variance", xlim=(0, 1))
    finish(figure, title, columns=1)
    return figure


def _strip(subject: Subject, index: Tensor, outputs: list[Tensor], names: list[str], n_images: int) -> Figure:
    """Some of the samples ``index (n,)``, of every class, above their reconstructions ``(n, D)`` by each coder."""
    shown = stratified(subject.strata[index], n_images)
    pictures = np.stack([subject.images(each[shown]) for each in (subject.x[index], *outputs)])
    columns = [] if subject.label is None else [str(c) for c in subject.label[index[shown]].tolist()]
    title = "Reconstructions from the same atoms" + (", by class" if columns else "")
    return mosaic([Block(pictures, rows=["input", *names], columns=columns)], title=title, view=subject.view)
