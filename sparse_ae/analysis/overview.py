"""Overview at the end of every run: sparsity, the first atoms, some reconstructions."""

from typing import Annotated, NamedTuple

import torch
from matplotlib.figure import Figure
from pydantic import PositiveInt

from sparse_ae.analysis import contexts, reconstructions, sparsity
from sparse_ae.analysis.base import Label, Result, Subject
from sparse_ae.data.examples import Text
from sparse_ae.plotting.mosaic import feature_grid


class Numbers(NamedTuple):
    """Size and error of the run."""

    samples: int
    """Number of samples."""
    units: int
    """Number of units."""
    mse: Annotated[float, Label("MSE (per value)")]
    """MSE per value, over all samples."""


def analyse(subject: Subject, *, n_features: PositiveInt = 64, n_images: PositiveInt = 16) -> Result:
    """Sparsity of the codes, the first ``n_features`` atoms, and ``n_images`` samples with their reconstructions.

    Of text, whose atoms and rows say nothing to a reader, contexts that activate units most. The analyses ``sparsity``,
    ``features`` and ``reconstructions`` have the details.
    """
    atoms, text = subject.atoms, subject.sample.text
    numbers = Numbers(samples=len(subject.x), units=len(atoms), mse=float((subject.x_hat - subject.x).square().mean()))
    figures = {"sparsity": sparsity.overview(subject)}
    if text is not None:
        figures["contexts"] = _contexts(subject, text)
        return Result.of(
            numbers, figures, documents={contexts.DOCUMENT: contexts.document(subject, text, contexts.CONTEXTS)}
        )
    shown = atoms[:n_features]
    title = f"Learned features: what unit i alone decodes to ({len(shown)} of {len(atoms)}, each on its own scale)"
    names = [str(i) for i in range(len(shown))]
    figures["features"] = feature_grid(subject.images(shown), names, title=title, view=subject.view)
    return Result.of(numbers, figures | dict(reconstructions.analyse(subject, n_images=n_images).figures))


def _contexts(subject: Subject, text: Text) -> Figure:
    """Contexts of some living units, evenly spread from frequent to rare ones."""
    living = (~subject.dead).nonzero()[:, 0]
    ranked = living[subject.lifetime[living].argsort(descending=True, stable=True)]
    n = min(contexts.UNITS, len(ranked))
    spread = ranked[(2 * torch.arange(n) + 1) * len(ranked) // (2 * max(n, 1))]
    which = f"{n} of {len(ranked)} living units, from frequent to rare"
    return contexts.draw(subject, text, spread, contexts.CONTEXTS, which=which)
