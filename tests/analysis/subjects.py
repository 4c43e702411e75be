"""Something to analyse whose codes and atoms are given from outside."""

import torch
from torch import Tensor

from sparse_ae.analysis import Sample, Subject
from sparse_ae.run.directory import Run


class FixedCoder:
    """Gives the codes it was made with to the images it was made with, row by row, and to others the nearest's."""

    def __init__(self, x: Tensor, z: Tensor, atoms: Tensor) -> None:
        self.x, self.z, self.dictionary = x, z, atoms

    def encode(self, x: Tensor) -> Tensor:
        return self.z[torch.cdist(x, self.x).argmin(dim=1)]

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.dictionary


def subject_of(
    z: Tensor,
    atoms: Tensor | None = None,
    *,
    x: Tensor | None = None,
    label: Tensor | None = None,
    threshold: float = 0.1,
    run: Run | None = None,
) -> Subject:
    """Codes ``(B, N)`` of images of 4 x 4 pixels, random unless given."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(len(z), 16, generator=generator) if x is None else x
    atoms = torch.rand(z.shape[1], 16, generator=generator) if atoms is None else atoms
    label = torch.zeros(len(z), dtype=torch.long) if label is None else label
    sample = Sample(
        x, label, (1, 4, 4), threshold, lambda: torch.rand(50, 16, generator=generator), lambda split: (x, label)
    )
    return Subject(FixedCoder(x, z, atoms), sample, run)
