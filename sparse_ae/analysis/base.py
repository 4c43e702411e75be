"""What every analysis takes and gives: a coder and a sample in, numbers, arrays and figures out."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from pydantic import BeforeValidator
from torch import Tensor

from sparse_ae.coders import Coder
from sparse_ae.runs.directory import Run

_BATCH = 1000


def _finished(run: object) -> object:
    if isinstance(run, str):
        run = Run.open(run)
        run.read_model_spec()
    return run


FinishedRun = Annotated[Run, BeforeValidator(_finished)]
"""A finished run, given as its folder."""


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
    train_images: Callable[[], Tensor]
    """Float training images in [0, 1], ``(B', D)``, on the CPU: for references that are fitted, such as PCA."""
    labelled: Callable[[Literal["train", "val"]], tuple[Tensor, Tensor]]
    """Float images ``(B', D)`` and classes ``(B',)`` of the other splits, on the CPU: for probes, which are fitted."""


class Subject:
    """A coder, the sample it codes, and the run it comes from if there is one.

    What several analyses need is computed once: codes and reconstructions of the whole sample, float32 on the CPU.
    """

    def __init__(self, coder: Coder, sample: Sample, run: Run | None = None) -> None:
        self.coder = coder
        self.sample = sample
        self.run = run

    @cached_property
    def x(self) -> Tensor:
        """The images ``(B, D)``."""
        return self.sample.x.float().cpu()

    @cached_property
    def label(self) -> Tensor:
        """Their classes ``(B,)``, int64."""
        return self.sample.label.cpu().long()

    @cached_property
    def z(self) -> Tensor:
        """Their codes ``(B, N)``."""
        return self.encode(self.sample.x)

    @cached_property
    def x_hat(self) -> Tensor:
        """Their reconstructions ``(B, D)``."""
        return self.decode(self.z)

    @cached_property
    def atoms(self) -> Tensor:
        """The dictionary ``(N, D)``."""
        return self.coder.dictionary.detach().float().cpu()

    @cached_property
    def dead(self) -> Tensor:
        """Whether a unit's code is never != 0, ``(N,)``."""
        return (self.z == 0).all(dim=0)

    @cached_property
    def typical(self) -> Tensor:
        """Each unit's typical activation a_i, the median of its |codes| != 0 (of two middle ones the lower), ``(N,)``;
        1 for dead units.
        """
        return self.z.abs().masked_fill(self.z == 0, torch.nan).nanmedian(dim=0).values.nan_to_num(nan=1.0)

    @cached_property
    def directions(self) -> Tensor:
        """What each unit adds to the reconstruction of an empty code at its typical activation, decode(a_i e_i) -
        decode(0), ``(N, D)``: a_i times the atom, of a linear decoder. Another answers differently to a code that does
        not occur; and its atoms have in common what it decodes 0 to, and so resemble one another whatever was learned.
        """
        return self.decode(self.typical.diag()) - self.decode(torch.zeros(1, len(self.typical)))

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``(B', N)`` of any images ``(B', D)``, a batch at a time."""
        device = self.sample.x.device
        return _in_batches(lambda batch: self.coder.encode(batch.to(device)), x)

    def decode(self, z: Tensor) -> Tensor:
        """Reconstructions ``(B', D)`` from any codes ``(B', N)``, a batch at a time."""
        device = self.sample.x.device
        return _in_batches(lambda batch: self.coder.decode(batch.to(device)), z)

    def images(self, flat: Tensor) -> npt.NDArray[np.floating]:
        """``(n, D)`` as grey pictures ``(n, H, W)``: the mean over channels."""
        pictures: npt.NDArray[np.floating] = flat.float().cpu().reshape(-1, *self.sample.shape).mean(dim=1).numpy()
        return pictures


class Embedding(NamedTuple):
    """Points to be looked at in TensorBoard's projector."""

    vectors: npt.NDArray[np.floating]
    """``(n, d)``."""
    pictures: npt.NDArray[np.floating]
    """``(n, H, W)``, each shown on its own scale."""
    labels: list[str]
    """One for each."""


class Result(NamedTuple):
    """What an analysis found."""

    numbers: dict[str, Any]
    """Plain JSON values; what is undefined is None. Single numbers at the top level are what runs are compared by."""
    figures: dict[str, Figure]
    arrays: Mapping[str, npt.NDArray[Any]] = {}
    """What figures are drawn from, for whoever wants to go on from there."""
    embedding: Embedding | None = None


@torch.inference_mode()
def _in_batches(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    results: Iterable[Tensor] = (function(batch).float().cpu() for batch in x.split(_BATCH))
    return torch.cat(list(results))
