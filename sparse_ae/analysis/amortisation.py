"""What is lost by encoding in one pass: the run's own codes beside those that a search finds on the same atoms."""

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.analysis.statistics import ratio, sample_errors, stratified, variances
from sparse_ae.coders import OMP
from sparse_ae.coders.omp import Selection
from sparse_ae.plotting import error_curves, image_table
from sparse_ae.timing import median_seconds

_MOST = 256
"""Codes != 0 of a sample: among more there is nothing to search for, and refitting them takes long."""
_GRAM_VALUES = 2**22
"""Of Gram matrices at a time."""
_LINEAR_WITHIN = 1e-3


def analyse(
    subject: Subject,
    *,
    n_samples: PositiveInt,
    selection: Selection,
    repeats: PositiveInt,
    n_images: PositiveInt,
) -> Result:
    """FVU(own codes) - FVU(OMP on the own atoms at the same L0): how much is the encoder's fault, not the atoms'.

    In between stand the run's own supports with coefficients refitted to each sample by least squares: the gap is that
    of the coefficients and that of the support. OMP has as many atoms a sample as the run on average, rounded, with
    coefficients of either sign; it searches greedily, so that an encoder which searches better has a gap below 0.

    Numbers, over ``samples`` test images, stratified by class: ``fvu``, ``refitted_fvu``, ``omp_fvu``; ``gap``,
    ``coefficient_gap`` and ``support_gap``; ``l0`` and ``omp_l0``; ``shared_support``, the mean share of OMP's atoms
    that the run uses too; ``encode_seconds`` and ``omp_encode_seconds`` of all samples, medians of ``repeats``.
    Arrays: ``error``, |x_hat - x|^2 ``(coders, samples)``; ``coders``, their names; ``index`` of the samples.
    Raises ``ValueError`` where the decoder is not linear or a sample has more than 256 codes != 0.
    """
    index = stratified(subject.label, n_samples)
    x, variance = subject.x[index], variances(subject, index)
    z, x_hat, empty = subject.z[index], subject.x_hat[index], subject.decode(torch.zeros(1, len(subject.atoms)))[0]
    _check(z, x_hat, subject.atoms, empty)
    l0 = float((z != 0).sum(dim=1).double().mean())
    directed = subject.atoms.any(dim=1)  # the atoms of dead units may have become 0
    omp = OMP(subject.atoms[directed], min(max(1, round(l0)), int(directed.sum())), mean=empty, selection=selection)
    search = Subject(omp.to(subject.sample.x.device), subject.sample)
    searched = torch.zeros_like(z)
    searched[:, directed] = search.encode(x)
    codes = {"own codes": z, "own support, refitted": refit(x - empty, z, subject.atoms), "OMP, own atoms": searched}
    outputs = [x_hat, *(other @ subject.atoms + empty for other in list(codes.values())[1:])]
    errors = torch.stack([sample_errors(output, x) for output in outputs])
    fvu = [ratio(error.sum(), variance.sum()) for error in errors]
    used = searched != 0
    numbers = {
        "samples": len(index),
        **dict(zip(("fvu", "refitted_fvu", "omp_fvu"), fvu, strict=True)),
        "gap": _difference(fvu[0], fvu[2]),
        "coefficient_gap": _difference(fvu[0], fvu[1]),
        "support_gap": _difference(fvu[1], fvu[2]),
        "l0": l0,
        "omp_l0": float(used.sum(dim=1).double().mean()),
        "shared_support": ratio((used & (z != 0)).sum(), used.sum()),
        "encode_seconds": median_seconds(lambda: subject.encode(x), repeats),
        "omp_encode_seconds": median_seconds(lambda: search.encode(x), repeats),
    }
    lines = {
        f"{name}: FVU {'undefined' if share is None else f'{share:.4f}'}": (error / variance.mean()).numpy()
        for name, share, error in zip(codes, fvu, errors, strict=True)
    }
    title = f"Own codes and searched ones, the same {len(subject.atoms)} atoms, L0 {l0:.1f}: {len(index):,} test images"
    figures = {
        "errors": error_curves(lines, ylabel="squared error / mean variance", title=title),
        "reconstructions": _strip(subject, x, outputs, list(codes), stratified(subject.label[index], n_images)),
    }
    arrays = {"error": errors.numpy(), "coders": np.array(list(codes)), "index": index.numpy()}
    return Result(numbers, figures, arrays)


def refit(x: Tensor, z: Tensor, atoms: Tensor) -> Tensor:
    """argmin |x_b - z_b A|^2 over the coefficients that are not 0 in ``z (B, N)``; of several the smallest, ``(B, N)``.

    ``x (B, D)``, ``atoms A (N, D)``; computed in float64.
    """
    k = max(1, int((z != 0).sum(dim=1).max()))
    atom = z.abs().topk(k, dim=1).indices
    used = z.gather(1, atom) != 0
    exact = atoms.double()
    gram, right = exact @ exact.T, (x.double() @ exact.T).gather(1, atom) * used
    refitted = torch.zeros_like(z)
    parts = (part.split(max(1, _GRAM_VALUES // k**2)) for part in (atom, used, right, refitted))
    for chosen, kept, rhs, out in zip(*parts, strict=True):
        own = gram[chosen[:, :, None], chosen[:, None, :]] * kept[:, :, None] * kept[:, None, :]
        value = (torch.linalg.pinv(own, hermitian=True) @ rhs[:, :, None])[:, :, 0]
        out.scatter_(1, chosen, value.to(z.dtype))
    return refitted


def _check(z: Tensor, x_hat: Tensor, atoms: Tensor, empty: Tensor) -> None:
    largest = int((z != 0).sum(dim=1).max())
    if largest > _MOST:
        raise ValueError(f"analysis.amortisation: a sample has {largest} codes != 0 (allowed: up to {_MOST})")
    if (x_hat - z @ atoms - empty).norm() > _LINEAR_WITHIN * x_hat.norm():
        raise ValueError("analysis.amortisation: the decoder is no dictionary (allowed: a run with a linear decoder)")


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _strip(subject: Subject, x: Tensor, outputs: list[Tensor], names: list[str], shown: Tensor) -> Figure:
    images = torch.stack([each[shown] for each in (x, *outputs)])
    pictures = subject.images(images.flatten(0, 1)).reshape(*images.shape[:2], *subject.sample.shape[1:])
    columns = [str(label) for label in subject.label[stratified(subject.label, len(x))][shown].tolist()]
    return image_table(pictures, ["input", *names], columns, title="Reconstructions from the same atoms, by class")
