"""The contract of an analysis: a coder and a sample in, numbers, arrays and figures out."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from pydantic import BeforeValidator
from torch import Tensor

from sparse_ae.analysis.codes import Codes
from sparse_ae.coders import Coder
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.predictions import Language
from sparse_ae.data.examples import Text
from sparse_ae.data.sparse_model import Truth
from sparse_ae.functional import block_rows, blockwise, lifetime_sparsity
from sparse_ae.plotting.pictures import View
from sparse_ae.run.directory import Run

A = TypeVar("A", bound=Callable[..., Any])

_BATCH = 1000
"""Largest number of samples that are coded at a time."""
_PROBES, _LINEAR_WITHIN = 16, 1e-4
"""Number of random codes on which a decoder is tried, and its largest error, relative to the largest output."""


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
    left_out: str = ""
    """A line about rows of the test split that are left out; empty if there are none."""
    text: Text | None = None
    """Text whose tokens the rows are; None for other data."""
    language: Callable[[], Language] | None = None
    """Gives the text of the test split and its language model; None for data that are no activations of one."""
    truth: Callable[[], Truth] | None = None
    """Gives the features that the data were made from, and their codes of the rows; None where nobody knows them."""


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
    def has_pictures(self) -> bool:
        """True if rows and atoms are drawn; those of text say nothing to a reader, who is shown the text instead."""
        return self.sample.text is None

    @property
    def noun(self) -> str:
        """Name of a sample in titles: image, token or sample."""
        return self.view.noun if self.has_pictures else "token"

    @cached_property
    def codes(self) -> Codes:
        """Codes of the sample ``(B, N)``."""
        return self.encode(self.sample.x)

    @cached_property
    def x_hat(self) -> Tensor:
        """Reconstructions of the sample ``(B, D)``."""
        return self.decode(self.codes)

    @cached_property
    def atoms(self) -> Tensor:
        """The dictionary ``(N, D)``."""
        return self.coder.dictionary.detach().float().cpu()

    @cached_property
    def dead(self) -> Tensor:
        """True for a unit whose code is never != 0, ``(N,)``."""
        return self.codes.T.counts == 0

    @cached_property
    def lifetime(self) -> Tensor:
        """Lifetime sparsity of each unit at the sample's threshold, ``(N,)``."""
        return self.codes.per_unit(lambda z: lifetime_sparsity(z, self.sample.threshold))

    @cached_property
    def typical(self) -> Tensor:
        """Typical activation a_i of each unit, ``(N,)``: the median of its |codes| != 0, the lower of two middle ones.

        1 for dead units.
        """
        sizes = self.codes.T.sizes
        middle = torch.from_numpy(sizes.indptr[:-1]) + (self.codes.T.counts - 1) // 2
        return torch.from_numpy(np.append(sizes.data, np.float32(1)))[torch.where(self.dead, -1, middle)]

    @cached_property
    def empty(self) -> Tensor:
        """Reconstruction of the code that is 0, ``(D,)``."""
        return self.decode(torch.zeros(1, len(self.atoms)))[0]

    @cached_property
    def is_linear(self) -> bool:
        """True if decode(z) = z @ atoms + ``empty``, tested on random codes as large as the largest of a batch."""
        largest = float(next(self.batches(self.sample.x)).abs().max()) or 1.0
        z = largest * torch.randn(_PROBES, len(self.atoms), generator=torch.Generator().manual_seed(0))
        decoded = self.decode(z)
        return bool((z @ self.atoms + self.empty - decoded).abs().max() <= _LINEAR_WITHIN * decoded.abs().max())

    @cached_property
    def directions(self) -> Tensor:
        """Contribution of each unit alone, decode(a_i e_i) - decode(0) at its typical activation a_i, ``(N, D)``.

        With a linear decoder that is a_i times the atom. For other decoders, decode(e_i) is misleading: the activation
        1 may never occur, and all atoms share decode(0).
        """
        return self.alone(self.typical)

    def alone(self, size: Tensor) -> Tensor:
        """decode(s_i e_i) - decode(0) for each unit i and its ``size (N,)``, ``(N, D)``."""
        if self.is_linear:
            return size[:, None] * self.atoms

        def decoded(part: slice) -> Tensor:
            one_hot = torch.zeros(part.stop - part.start, len(size))
            one_hot.diagonal(part.start).copy_(size[part])
            return self.decode(one_hot) - self.empty

        return blockwise(len(size), len(size), decoded)

    def encode(self, x: Tensor) -> Codes:
        """Codes ``(B', N)`` of any data ``(B', D)``."""
        return Codes.of(self.batches(x))

    @torch.inference_mode()
    def batches(self, x: Tensor) -> Iterator[Tensor]:
        """Codes of any data ``(B', D)`` as the coder gives them, dense, a batch at a time."""
        for batch in x.split(block_rows(len(self.atoms), _BATCH)):
            yield self.coder.encode(batch.to(self.sample.x.device))

    def decode(self, z: Tensor | Codes) -> Tensor:
        """Reconstructions ``(B', D)`` from any codes ``(B', N)``."""
        if isinstance(z, Tensor):
            return self._decode(z)
        if self.is_linear:
            return z @ self.atoms + self.empty
        return z.per_sample(self._decode)

    @torch.inference_mode()
    def _decode(self, z: Tensor) -> Tensor:
        device, rows = self.sample.x.device, block_rows(z.shape[1], _BATCH)
        return torch.cat([self.coder.decode(batch.to(device)).float().cpu() for batch in z.split(rows)])

    def images(self, flat: Tensor) -> npt.NDArray[np.floating]:
        """Data, atoms or differences ``(n, D)`` as pictures: ``View.pictures``."""
        return self.view.pictures(flat.float().cpu().numpy())


def classes_needed(label: Tensor | None, by: str) -> Tensor:
    """Return ``label``. Raises ``NoClassesError``, which says that ``by`` needs classes, for None."""
    if label is None:
        raise NoClassesError("data.labels", reason=f"{by} needs classes, and the data have none")
    return label


class Need(NamedTuple):
    """Property of data that an analysis cannot do without."""

    data: type
    """Class of the data that have it."""
    reason: str
    """Sentence that names the analysis and the property."""
    expected: str
    """Option that gives such data."""

    @property
    def error(self) -> ConfigError:
        """Error about other data."""
        return ConfigError("data", reason=self.reason, expected=self.expected)


_NEEDS: dict[Callable[..., Any], Need] = {}


def needs(need: Need) -> Callable[[A], A]:
    """Decorate an analysis with its ``need``, so that other data are refused before a coder is trained on them."""

    def note(analyse: A) -> A:
        _NEEDS[analyse] = need
        return analyse

    return note


def check_need(analyse: Callable[..., Any], data: object) -> None:
    """Raise ``ConfigError`` if ``data`` lack what the analysis needs."""
    need = _NEEDS.get(analyse)
    if need is not None and not isinstance(data, need.data):
        raise need.error


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
    pictures: npt.NDArray[np.floating] | None
    """A picture of each point, ``(n, H, W)`` or ``(n, H, W, 3)``, shown on its own scale; None for points alone."""
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
    documents: Mapping[str, Any] = {}
    """Plain JSON values of any size, by name, each written to a file of its own."""

    @classmethod
    def of(
        cls,
        numbers: NamedTuple,
        figures: Mapping[str, Figure],
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
        embedding: Embedding | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> "Result":
        """Result from a NamedTuple whose fields are the numbers, some of them annotated with a ``Label``."""
        return cls(numbers._asdict(), figures, arrays or {}, embedding, labels_of(type(numbers)), documents or {})
