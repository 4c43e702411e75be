"""Overview at the end of every run: sparsity, the first atoms, some reconstructions."""

from typing import Annotated, NamedTuple

from pydantic import PositiveInt

from sparse_ae.analysis import reconstructions, sparsity
from sparse_ae.analysis.base import Label, Result, Subject
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

    The analyses ``sparsity``, ``features`` and ``reconstructions`` have the details.
    """
    atoms = subject.atoms[:n_features]
    title = (
        f"Learned features: what unit i alone decodes to ({len(atoms)} of {len(subject.atoms)}, each on its own scale)"
    )
    numbers = Numbers(
        samples=len(subject.x), units=len(subject.atoms), mse=float((subject.x_hat - subject.x).square().mean())
    )
    figures = {
        "sparsity": sparsity.overview(subject),
        "features": feature_grid(
            subject.images(atoms), [str(i) for i in range(len(atoms))], title=title, view=subject.view
        ),
        **reconstructions.analyse(subject, n_images=n_images).figures,
    }
    return Result.of(numbers, figures)
