"""What each unit stands for: its atom, or what it decodes to alone."""

import torch.nn.functional as F
from pydantic import PositiveInt

from sparse_ae.analysis.base import Result, Subject
from sparse_ae.plotting import feature_grid


def analyse(subject: Subject, *, n_features: PositiveInt) -> Result:
    """The first ``n_features`` atoms as images.

    Numbers: ``units``, ``shown``, the least, mean and largest ``atom_norm``, and the ``coherence`` (largest |cosine|
    between two different atoms; None with a single unit).
    """
    atoms = subject.atoms
    norms = atoms.norm(dim=1)
    directions = F.normalize(atoms, dim=1)
    cosines = (directions @ directions.T).abs().fill_diagonal_(0)
    shown = subject.images(atoms[:n_features])
    numbers = {
        "units": len(atoms),
        "shown": len(shown),
        "atom_norm": {"min": float(norms.min()), "mean": float(norms.mean()), "max": float(norms.max())},
        "coherence": float(cosines.max()) if len(atoms) > 1 else None,
    }
    title = f"Learned features: what unit i alone decodes to ({len(shown)} of {len(atoms)}, each on its own scale)"
    figure = feature_grid(shown, [str(i) for i in range(len(shown))], title=title)
    return Result(numbers, {"features": figure})
