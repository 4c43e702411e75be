"""The contract of an analysis: a coder and a sample in, numbers, arrays and figures out."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from pydantic import BeforeValidator
from torch import Tensor

from sparse_ae.coders import Coder
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.predictions import Language
from sparse_ae.plotting.pictures import View
from sparse_ae.runs.directory import Run

_BATCH = 1000


def _finished(run: object) -> object:
    if isinstance(run, str):
        run = Run.open(run)
        run.read_model_spec()
    return run


def _listed(values: object) -> object:
    if not isinstance(values, list | tuple):
        raise ValueError("should be a list")
    return values


def _not_empty(values: object) -> object:
    if not _listed(values):
        raise ValueError("should have at least 1 item")
    return values


LISTED, NOT_EMPTY = BeforeValidator(_listed), BeforeValidator(_not_empty)
"""Checks of an option that is a list, the second of one with at least one item; its default is a tuple."""

FinishedRun = Annotated[Run, BeforeValidator(_finished)]
"""A finished run, given as its folder."""


class NoClassesError(ConfigError):
    """Something needs the classes of data that have none."""


class Sample(NamedTuple):
    """Data to analyse, normally the whole test split, and access to the other splits."""

    x: Tensor
    """Floats ``(B, D)`` in the data's own unit, for images of bytes [0, 1], on the coder's device."""
    label: Tensor | None
    """Classes ``(B,)``; None for data without classes."""
    shape: tuple[int, ...]
    """Channels, height, width of an image; ``(D,)`` for vectors."""
    threshold: float
    """A unit is active where its |code| exceeds this."""
    train_rows: Callable[[], Tensor]
    """Training data ``(B', D)``, like ``x`` but on the CPU: for references that are fitted, such as PCA."""
    labelled: Callable[[Literal["train", "val"]], tuple[Tensor, Tensor | None]]
    """Data ``(B', D)`` and classes ``(B',)`` of the other splits, on the CPU: for probes, which are fitted."""
    language: Callable[[], Language] | None = None
    """Gives the text of the test split and its language model; None for data that are no activations of one."""


class Subject:
    """A coder, the sample that it codes, and its run if there is one.

    Quantities that several analyses need are computed once: float32, on the CPU.
    """

    def __init__(self, coder: Coder, sample: Sample, run: Run | None = None) -> None:
        self.coder = coder
        self.sample = sample
        self.run = run

    @cached_property
    def x(self) -> Tensor:
        """Data of the sample ``(B, D)``."""
        return self.sample.x.float().cpu()

    @cached_property
    def label(self) -> Tensor | None:
        """Classes of the sample ``(B,)``, int64; None for data without classes."""
        return None if self.sample.label is None else self.sample.label.cpu().long()

    @property
    def strata(self) -> Tensor:
        """Classes by which samples are drawn, ``(B,)``: one for all samples of data without classes."""
        return torch.zeros(len(self.x), dtype=torch.long) if self.label is None else self.label

    @cached_property
    def view(self) -> View:
        """Look of the data in pictures."""
        return View.of(self.x.numpy(), self.sample.shape)

    @property
    def noun(self) -> str:
        """Name of a sample in titles: image or sample."""
        return self.view.noun

    @cached_property
    def z(self) -> Tensor:
        """Codes of the sample ``(B, N)``."""
        return self.encode(self.sample.x)

    @cached_property
    def x_hat(self) -> Tensor:
        """Reconstructions of the sample ``(B, D)``."""
        return self.decode(self.z)

    @cached_property
    def atoms(self) -> Tensor:
        """The dictionary ``(N, D)``."""
        return self.coder.dictionary.detach().float().cpu()

    @cached_property
    def dead(self) -> Tensor:
        """True for a unit whose code is never != 0, ``(N,)``."""
        return (self.z == 0).all(dim=0)

    @cached_property
    def typical(self) -> Tensor:
        """Typical activation a_i of each unit, ``(N,)``: the median of its |codes| != 0, the lower of two middle ones.

        1 for dead units.
        """
        return self.z.abs().masked_fill(self.z == 0, torch.nan).nanmedian(dim=0).values.nan_to_num(nan=1.0)

    @cached_property
    def directions(self) -> Tensor:
        """Contribution of each unit alone, decode(a_i e_i) - decode(0) at its typical activation a_i, ``(N, D)``.

        With a linear decoder that is a_i times the atom. For other decoders, decode(e_i) is misleading: the activation
        1 may never occur, and all atoms share decode(0).
        """
        return self.decode(self.typical.diag()) - self.decode(torch.zeros(1, len(self.typical)))

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``(B', N)`` of any data ``(B', D)``, a batch at a time."""
        device = self.sample.x.device
        return _in_batches(lambda batch: self.coder.encode(batch.to(device)), x)

    def decode(self, z: Tensor) -> Tensor:
        """Reconstructions ``(B', D)`` from any codes ``(B', N)``, a batch at a time."""
        device = self.sample.x.device
        return _in_batches(lambda batch: self.coder.decode(batch.to(device)), z)

    def images(self, flat: Tensor) -> npt.NDArray[np.floating]:
        """Data, atoms or differences ``(n, D)`` as pictures: ``View.pictures``."""
        return self.view.pictures(flat.float().cpu().numpy())


def classes_needed(label: Tensor | None, by: str) -> Tensor:
    """Return ``label``. Raises ``NoClassesError``, which says that ``by`` needs classes, for None."""
    if label is None:
        raise NoClassesError("data.labels", reason=f"{by} needs classes, and the data have none")
    return label


class Label(str):
    """Annotation of a number that runs are compared by: its name in reports and figures.

    ``dead_units: Annotated[int, Label("dead units (code never != 0)")]`` in the NamedTuple of an analysis's numbers.
    """

    __slots__ = ()


def labels_of(numbers: type) -> dict[str, str]:
    """Labels of the annotated fields of a NamedTuple, by field, in their order."""
    hints = get_type_hints(numbers, include_extras=True)
    annotations = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: str(note) for name, notes in annotations.items() for note in notes if isinstance(note, Label)}


class Embedding(NamedTuple):
    """Points for TensorBoard's projector."""

    vectors: npt.NDArray[np.floating]
    """Coordinates ``(n, d)``."""
    pictures: npt.NDArray[np.floating]
    """A picture of each point, ``(n, H, W)`` or ``(n, H, W, 3)``, shown on its own scale."""
    labels: list[str]
    """A label for each point."""


class Result(NamedTuple):
    """Outcome of an analysis; ``Result.of`` takes the labels from the type of the numbers."""

    numbers: dict[str, Any]
    """Plain JSON values; None where undefined. Single numbers at the top level can be compared between runs."""
    figures: Mapping[str, Figure]
    """Figures by name."""
    arrays: Mapping[str, npt.NDArray[Any]] = {}
    """Data behind the figures, by name."""
    embedding: Embedding | None = None
    """Points for TensorBoard's projector."""
    labels: Mapping[str, str] = {}
    """Labels of the numbers that runs are compared by, in their order; without any, all single numbers are."""

    @classmethod
    def of(
        cls,
        numbers: NamedTuple,
        figures: Mapping[str, Figure],
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
        embedding: Embedding | None = None,
    ) -> "Result":
        """Result from a NamedTuple whose fields are the numbers, some of them annotated with a ``Label``."""
        return cls(numbers._asdict(), figures, arrays or {}, embedding, labels_of(type(numbers)))


@torch.inference_mode()
def _in_batches(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    results: Iterable[Tensor] = (function(batch).float().cpu() for batch in x.split(_BATCH))
    return torch.cat(list(results))
