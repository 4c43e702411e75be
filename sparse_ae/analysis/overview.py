"""The three pictures that every run ends with; the analyses of their names look closer."""

from pydantic import PositiveInt

from sparse_ae.analysis import reconstructions, sparsity
from sparse_ae.analysis.base import Result, Subject
from sparse_ae.plotting import feature_grid


def analyse(subject: Subject, *, n_features: PositiveInt, n_images: PositiveInt) -> Result:
    """How sparse the codes are, the first ``n_features`` atoms, and ``n_images`` images with their reconstructions.

    Numbers: ``samples``, ``units``, and ``mse`` over all samples.
    """
    atoms = subject.atoms[:n_features]
    title = (
        f"Learned features: what unit i alone decodes to ({len(atoms)} of {len(subject.atoms)}, each on its own scale)"
    )
    numbers = {
        "samples": len(subject.x),
        "units": len(subject.atoms),
        "mse": float((subject.x_hat - subject.x).square().mean()),
    }
    figures = {
        "sparsity": sparsity.overview(subject),
        "features": feature_grid(subject.images(atoms), [str(i) for i in range(len(atoms))], title=title),
    }
    return Result(numbers, figures | reconstructions.analyse(subject, n_images=n_images).figures)
