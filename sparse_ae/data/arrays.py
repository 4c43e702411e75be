"""Rows of the user's own: an array file, or a folder of shards."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.config.checked import checked, with_options_of
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.files import names_file
from sparse_ae.data.module import DataModule, Samples
from sparse_ae.data.rows import FileRows, Labels, Rows, open_labels, open_rows, shards
from sparse_ae.data.scale import Moments, Normalization
from sparse_ae.data.splits import Size, Split

_CHANNELS = (1, 3)
"""Numbers of channels that tell an array of images ``(n, C, H, W)``."""


@with_options_of(DataModule)
class Arrays(DataModule):
    """Rows ``(n, D)``, or images ``(n, H, W)`` or ``(n, C, H, W)``, of any integer or floating type.

    - ``path``: ``.npy``, ``.npz``, ``.safetensors``, ``.pt``, or a folder of shards of one of these.
    - ``key``: the array to take from a file of several.
    - ``labels``: classes ``(n,)``, never used in training: an array of the files, or a file of their own.
    - ``test_path``, ``val_path``: files of their own for these splits, with ``test_labels`` and ``val_labels``; without
      them ``test_size`` and ``val_size`` rows of ``path`` are drawn, as numbers or shares.
    - ``split_by``: an array or a file of group names ``(n,)``; rows of one group all fall into one split.
    - ``input_shape``: of the image in each row, (H, W) or (C, H, W); vectors need none.
    - ``content``: digest of the files, by which runs on other data are told apart; only the command line sets it.

    Further options are those of ``DataModule``. Raises ``ConfigError`` for files that cannot be used, from their
    headers.
    """

    @checked
    def __init__(
        self,
        *,
        path: str = "???",
        key: str | None = None,
        labels: str | None = None,
        val_path: str | None = None,
        val_labels: str | None = None,
        test_path: str | None = None,
        test_labels: str | None = None,
        split_by: str | None = None,
        input_shape: Sequence[PositiveInt] | None = None,
        content: str | None = None,
        test_size: Size = 0.1,
        val_size: Size = 0.1,
        normalize: Normalization = "rms",
        **options: Any,
    ) -> None:
        if path == "???":
            raise ConfigError("path", reason="is required", expected="a file, or a folder of shards")
        self.path, self.key, self.content = path, key, content
        self._rows: dict[Split, FileRows] = {"train": open_rows(path, key)}
        self._label_files: dict[Split, str | None] = {"train": labels, "val": val_labels, "test": test_labels}
        self._paths: dict[Split, str] = {"train": path}
        files: dict[Split, str | None] = {"val": val_path, "test": test_path}
        for name, own in files.items():
            if own is not None:
                self._rows[name] = open_rows(own, key, path_option=f"{name}_path")
                self._paths[name] = own
                self._check_same(name)
        self.input_shape = _row_shape(self._rows["train"].shape, input_shape)
        self.test_size = test_size
        if split_by is not None:
            self.groups = self._column("split_by", split_by, "train").number
        super().__init__(val_size=val_size, normalize=normalize, **options)
        self._labels = self._numbered()

    def count(self, name: Split) -> int | None:
        return len(self._rows[name]) if name in self._rows else None

    def source(self, name: Split) -> Samples:
        return Samples(self._rows[name], self._labels.get(name))

    @property
    def are_integers(self) -> bool:
        return not self._rows["train"].dtype.is_floating_point

    @property
    def fingerprint(self) -> str | None:
        return None if self.content is None else f"{self.content} {self.key}"

    def origin(self, name: Split) -> str:
        return "data.path" if name == "train" or name not in self._rows else f"data.{name}_path"

    def first_pass(self) -> Moments:
        """Moments of the training split. Raises ``ConfigError`` for the first value of any split that is not finite."""
        moments = super().first_pass()
        for name in ("val", "test"):
            for _ in self._chunks(name) if self.sizes[name] else ():
                pass
        return moments

    def describe(self) -> str:
        rows = self._rows["train"]
        shape = " x ".join(f"{size:,}" for size in (len(rows), *rows.shape))
        kind = f"{shape} {str(rows.dtype).removeprefix('torch.')}, {_size(rows.nbytes)}"
        place = {"device": str(self._device), "host": "host memory", "disk": "disk"}[self.tier]
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        scale = "" if self.normalize == "none" else f"; normalize={self.normalize}"
        if self.normalize == "whiten":
            scale += ", errors are those of whitened rows"
        kept = Path(self.path).is_relative_to(self.root)  # there by a session, which had it in memory
        return f"data: {Path(self.path).name if kept else self.path} ({kind}) on {place}; {sizes}{scale}"

    @property
    def doubts(self) -> list[str]:
        n, dim, found = self._file_size, self.input_dim, []
        if n < 2 * dim and len(self.input_shape) == 1:
            found.append(f"data.path={self.path} has {n} rows of {dim} values; are rows and columns exchanged?")
        label = self._labels.get("train")
        if label is not None and len(label.unique()) == n:
            found.append(f"data.labels={self._label_files['train']} has a class for every row; are these labels?")
        return found

    @property
    def row_bytes(self) -> int:
        return self.input_dim * self._rows["train"].dtype.itemsize

    def _numbered(self) -> dict[Split, Tensor]:
        """Classes of each file that has some; the same string is the same class in all of them."""
        found: dict[Split, Labels] = {}
        for name in self._rows:
            place, of_path = self._label_files[name], self._label_files["train"]
            if place is not None:
                found[name] = self._column("labels" if name == "train" else f"{name}_labels", place, name)
            elif of_path is not None and not names_file(of_path):  # an array of that name in a further file too
                found[name] = self._column("labels", of_path, name)
        names = sorted(set().union(*(labels.names for labels in found.values())))
        for name, labels in found.items():
            if names and not labels.names:
                place = self._label_files[name] or self._label_files["train"]
                raise ConfigError(f"{name}_labels", place, "numbers, where those of other files are strings")
        return {name: labels.among(names) for name, labels in found.items()}

    def _column(self, option: str, place: str, name: Split) -> Labels:
        """One value for each row of a split's file: an array of that file, or a file of its own."""
        if names_file(place):
            column = open_labels(place, path_option=option)
        else:
            column = open_labels(self._paths[name], place, key_option=option)
        if (found := len(column.number)) != (n := len(self._rows[name])):
            raise ConfigError(option, place, f"{found} values for {n} rows", f"{n}, one for each row")
        if len(own := shards(self._rows[name].arrays)) == len(column.shards):
            for (file, count), (of_rows, wanted) in zip(column.shards, own, strict=True):
                if count != wanted:
                    reason = f"{file} has {count} values, and {of_rows} of the rows {wanted}"
                    raise ConfigError(option, place, reason, "one for each row")
        return column

    def _check_same(self, name: Split) -> None:
        """Raise ``ConfigError`` unless the rows of a further file are like those of ``path``."""
        first, other = self._rows["train"], self._rows[name]
        if (other.shape, other.dtype) != (first.shape, first.dtype):
            reason = f"rows of {_kind(other)}, but those of path are {_kind(first)}"
            raise ConfigError(f"{name}_path", self._paths[name], reason, "the same")


def _size(n: int) -> str:
    """A number of bytes with its unit.

    >>> _size(735), _size(4_200_000_000)
    ('735 bytes', '4.2 GB')
    """
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min((len(str(n)) - 1) // 3, len(units) - 1)
    return f"{n / 1000**power:.3g} {units[power]}"


def _kind(rows: Rows) -> str:
    return f"{' x '.join(map(str, rows.shape))} {str(rows.dtype).removeprefix('torch.')}"


def _row_shape(stored: tuple[int, ...], asked: Sequence[int] | None) -> tuple[int, ...]:
    """(D,) or (C, H, W) of rows ``stored`` in any shape. Raises ``ConfigError`` if ``asked`` is another number."""
    if asked is None:
        if len(stored) == 3 and stored[0] not in _CHANNELS:
            reason = f"rows of {' x '.join(map(str, stored))} are images of {stored[0]} channels"
            raise ConfigError("input_shape", reason=reason, expected=f"{list(stored)}, if that is what they are")
        shape = stored
    else:
        shape = tuple(asked)
    if math.prod(shape) != math.prod(stored) or len(shape) > 3:
        raise ConfigError(
            "input_shape", list(shape), f"not the {math.prod(stored)} values of a row", "(H, W) or (C, H, W)"
        )
    return shape if len(shape) in (1, 3) else (1, *shape)
