"""What every analysis takes and gives: a coder and a sample in, numbers and figures out."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from sparse_ae.models import Coder

_BATCH = 1000


class Sample(NamedTuple):
    """What an analysis looks at: normally the whole test split."""

    x: Tensor
    """Float images in [0, 1], ``(B, D)``, on the coder's device."""
    label: Tensor
    """Classes ``(B,)``."""
    shape: tuple[int, ...]
    """Channels, height, width of one image."""
    threshold: float
    """A unit is active where its code exceeds this."""


class Result(NamedTuple):
    """What an analysis found."""

    numbers: dict[str, Any]
    """Plain JSON values; what is undefined is None."""
    figures: dict[str, Figure]


def encode_in_batches(coder: Coder, x: Tensor) -> Iterator[Tensor]:
    """Codes of ``x (B, D)``, a batch at a time."""
    for batch in x.split(_BATCH):
        yield coder.encode(batch)
