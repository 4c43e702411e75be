"""Datasets that are computed once, such as decoded pictures, and kept in a folder of arrays."""

import hashlib
import io
import json
import math
import shutil
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from sparse_ae.atomic import write_atomically
from sparse_ae.config.errors import UserError
from sparse_ae.data.cached import Cached
from sparse_ae.data.content import digest
from sparse_ae.data.module import Samples
from sparse_ae.data.progress import Progress
from sparse_ae.data.rows import open_labels, open_rows
from sparse_ae.data.splits import Split
from sparse_ae.lock import hold

Array = npt.NDArray[Any]

_SHARD_BYTES = 64 * 2**20


class Manifest(NamedTuple):
    """Description of a finished folder; it is written last."""

    version: int
    """Version of the code that made the rows."""
    rows: dict[str, int]
    """Number of rows of each split."""
    doubts: list[str]
    """Properties of the source that are probably mistakes, a line each."""
    digest: str
    """Digest of the arrays."""


class Writer:
    """Shards ``<split>/0.npy``, ... of rows, ``labels/<split>.npy`` of classes, and ``Progress``."""

    def __init__(self, folder: Path, total: int) -> None:
        self.rows: dict[str, int] = {}
        self._folder = folder
        self._shards: dict[str, int] = {}
        self._waiting: dict[str, list[Array]] = {}
        self._labels: dict[str, list[Array]] = {}
        self._progress = Progress(f"making {folder.name}", total)

    def __call__(self, name: Split, rows: Array, label: Array | None = None) -> None:
        """Append ``rows (B, ...)`` to a split, with their classes ``(B,)`` if it has any."""
        self.rows[name] = self.rows.get(name, 0) + len(rows)
        waiting = self._waiting.setdefault(name, [])
        waiting.append(rows)
        if label is not None:
            self._labels.setdefault(name, []).append(label)
        if sum(part.nbytes for part in waiting) >= _SHARD_BYTES:
            self._flush(name)
        self._progress(len(rows))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.__exit__(kind, error, at)

    def finish(self) -> list[Path]:
        """Write what is left, and return all files."""
        for name in self._waiting:
            self._flush(name)
        for name, parts in self._labels.items():
            _save(self._folder / "labels" / f"{name}.npy", np.concatenate(parts))
        return _arrays(self._folder)

    def _flush(self, name: str) -> None:
        if any(map(len, self._waiting[name])):
            number = self._shards.get(name, 0)
            _save(self._folder / name / f"{number}.npy", np.concatenate(self._waiting[name]))
            self._shards[name], self._waiting[name] = number + 1, []


Make = Callable[[Writer], list[str]]
"""Computation of all rows, which are given to the writer; returns doubts about the source."""


class Made(Cached[Manifest]):
    """Rows computed into the folder ``root/<kind>-<digest>``, by one process while others wait.

    The digest covers ``recipe``. A folder that is half made, damaged, or of another version is made again.
    """

    kind: ClassVar[str]
    """First part of the name of the folder."""
    version: ClassVar[int] = 1
    """Version of ``make``, to be raised whenever it gives other rows."""

    @abstractmethod
    def recipe(self) -> Mapping[str, Any]:
        """Everything that the rows depend on, as JSON: options, and digests of files."""

    @abstractmethod
    def make(self, write: Writer) -> list[str]:
        """Compute the rows of every split, and return doubts about their source."""

    @abstractmethod
    def planned(self, name: Split) -> int | None:
        """Number of rows that ``make`` writes for a split, or more; None if it is drawn from the training rows."""

    def count(self, name: Split) -> int | None:
        planned = self.planned(name)
        return planned if planned is None or self._manifest is None else self._manifest.rows.get(name, 0)

    def source(self, name: Split) -> Samples:
        labels = self.folder / "labels" / f"{name}.npy"
        return Samples(open_rows(self.folder / name), open_labels(labels).number if labels.exists() else None)

    @cached_property
    def folder(self) -> Path:
        return self.root / f"{self.kind}-{self._digest()}"

    def compute(self) -> Manifest:
        """Make the rows, unless they are there. Raises ``ConfigError`` for a source that gives no rows to train on,
        ``UserError`` for one that changes meanwhile, and ``OSError`` naming the folder if it cannot be written.
        """
        names: tuple[Split, ...] = ("train", "val", "test")
        return open_made(self.folder, self.version, self._make, sum(self.planned(name) or 0 for name in names))

    def _make(self, write: Writer) -> list[str]:
        doubts = self.make(write)
        if not self.folder.name.endswith(self._digest()):
            raise UserError("data", reason="has changed while it was read; repeat the command")
        return doubts

    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def doubts(self) -> list[str]:
        return [] if self._manifest is None else self._manifest.doubts


def open_made(folder: Path, version: int, make: Make, total: int) -> Manifest:
    """Return the manifest of ``folder``, made before if need be; ``total`` rows fill the bar.

    Raises what ``make`` raises, and ``OSError`` of one line if the folder cannot be written.
    """
    try:
        manifest, _ = _read(folder, version)
        if manifest is None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with hold(folder.with_name(f".{folder.name}.lock"), wait=math.inf):
                manifest, fault = _read(folder, version)  # another process may have made it while this one waited
                if fault:
                    warnings.warn(f"{folder} {fault}; it is made again", stacklevel=2)
                if manifest is None:
                    manifest = _make(folder, version, make, total)
    except OSError as error:
        raise OSError(
            f"data.root: cannot write {folder} ({error.strerror or error}); "
            "set data.root or SPARSE_AE_DATA to a folder that has room and can be written"
        ) from error
    return manifest


def _make(folder: Path, version: int, make: Make, total: int) -> Manifest:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with Writer(folder, total) as write:
            doubts = make(write)
            manifest = Manifest(version, write.rows, doubts, digest(write.finish()))
        write_atomically(folder / "manifest.json", json.dumps(manifest._asdict(), indent=1).encode())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # room for others
        raise
    return manifest


def _read(folder: Path, version: int) -> tuple[Manifest | None, str]:
    """The manifest of a finished folder, else None and its fault; one that was never finished has none."""
    try:
        manifest = Manifest(**json.loads((folder / "manifest.json").read_bytes()))
        if manifest.version != version:
            return None, f"was written by another version of this package ({manifest.version}, not {version})"
        if digest(_arrays(folder)) == manifest.digest:
            return manifest, ""
    except FileNotFoundError:
        return None, ""
    except (TypeError, ValueError):
        pass
    return None, "is damaged"


def _arrays(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.npy"))


def _save(file: Path, array: Array) -> None:
    content = io.BytesIO()  # to a file, NumPy loses the error of a disk that is full at the last few bytes
    np.save(content, array)
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, content.getbuffer())
