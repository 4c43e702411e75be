"""Pictures of the user's own, in a folder."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.config.checked import checked, with_options_of
from sparse_ae.config.errors import ConfigError, listed
from sparse_ae.data.content import identity
from sparse_ae.data.files import picture_class, picture_files, placed
from sparse_ae.data.loader import to_unit_interval
from sparse_ae.data.made import Made, Writer
from sparse_ae.data.module import DataModule
from sparse_ae.data.pictures import read_picture
from sparse_ae.data.splits import Size, Split

_AT_ONCE = 256
_NAMED = 3
"""Number of pictures that cannot be decoded of which a line gives the names."""


@with_options_of(DataModule)
class ImageFolder(Made):
    """Pictures in [0, 1] of any format that Pillow reads, decoded once into ``root``.

    - ``path``: a folder of pictures. Its subfolders, if it has any, are classes, numbered by name as torchvision does.
    - ``size``: (H, W) to which pictures are scaled, keeping their aspect, and cropped around their centre.
    - ``channels``: 1 for grey, 3 for colour.
    - ``strict``: refuse a folder with pictures that cannot be decoded; else they are left out.
    - ``test_path``, ``val_path``: folders of their own for these splits, with the same classes; without them
      ``test_size`` and ``val_size`` pictures of ``path`` are drawn, as numbers or shares.
    - ``content``: digest of the pictures, by which runs on other data are told apart; only the command line sets it.

    Further options are those of ``DataModule``. Raises ``ConfigError`` for folders without pictures.
    """

    kind = "images"
    is_of_pictures = True

    @checked
    def __init__(
        self,
        *,
        path: str = "???",
        size: Sequence[PositiveInt] | None = None,
        channels: Literal[1, 3] = 3,
        strict: bool = False,
        val_path: str | None = None,
        test_path: str | None = None,
        content: str | None = None,
        test_size: Size = 0.1,
        val_size: Size = 0.1,
        **options: Any,
    ) -> None:
        if size is None or len(size) != 2:
            given = {} if size is None else {"value": list(size)}
            raise ConfigError("size", **given, reason="height and width are needed", expected="[H, W], such as [32,32]")
        self.size, self.channels, self.strict, self.content = (size[0], size[1]), channels, strict, content
        self.input_shape = (channels, *self.size)
        self.test_size = test_size
        self._paths: dict[Split, str] = {"train": path}
        if val_path is not None:
            self._paths["val"] = val_path
        if test_path is not None:
            self._paths["test"] = test_path
        self._files = {name: picture_files(own, path_option=_option(name)) for name, own in self._paths.items()}
        if len(self._files["train"]) == 1:
            raise ConfigError("path", path, "a folder with one picture", "pictures to train on and to test")
        self.classes = self._classes("train")
        for name in self._paths:
            if unknown := set(self._classes(name)) - set(self.classes):
                reason = f"classes that path does not have ({listed(unknown)})"
                raise ConfigError(_option(name), self._paths[name], reason, listed(self.classes) or "no subfolders")
        super().__init__(val_size=val_size, **options)

    def planned(self, name: Split) -> int | None:
        return len(self._files[name]) if name in self._files else None

    def recipe(self) -> dict[str, Any]:
        paths = {_option(name): path for name, path in self._paths.items()}
        return {"pictures": identity(paths, pictures=True), "size": self.size, "channels": self.channels}

    def make(self, write: Writer) -> list[str]:
        """Decode all pictures. Raises ``ConfigError`` for a folder of which none can be decoded."""
        doubts = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            for name, files in self._files.items():
                failed: list[Path] = []
                for start in range(0, len(files), _AT_ONCE):
                    part = files[start : start + _AT_ONCE]
                    pictures = list(threads.map(lambda file: read_picture(file, self.channels, self.size), part))
                    decoded = [(file, x) for file, x in zip(part, pictures, strict=True) if x is not None]
                    failed += [file for file, x in zip(part, pictures, strict=True) if x is None]
                    if decoded:
                        write(
                            name, np.stack([x for _, x in decoded]), self._labels(name, (file for file, _ in decoded))
                        )
                if failed:
                    doubts.append(self._doubt(name, failed))
                if len(failed) == len(files):
                    raise ConfigError(f"data.{_option(name)}", self._paths[name], "no picture can be decoded")
        return doubts

    def prepare_data(self) -> None:
        """Decode the pictures, unless that is done. Raises ``ConfigError`` if some cannot be, and ``strict`` is set."""
        super().prepare_data()
        if self.strict and self.doubts:
            raise ConfigError("data.strict", True, "; ".join(self.doubts), "pictures that can be decoded, or false")

    def to_float(self, stored: Tensor) -> Tensor:
        """Bytes as floats in [0, 1]."""
        return to_unit_interval(stored)

    @property
    def in_unit_interval(self) -> bool:
        """True unless another scale is chosen."""
        return self.normalize in ("none", "unit_interval")

    def describe(self) -> str:
        shape = " x ".join(map(str, self.input_shape))
        classes = f", {len(self.classes)} classes" if self.classes else ""
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        return f"data: {self._paths['train']} (pictures as {shape}{classes}); {sizes}"

    def _classes(self, name: Split) -> list[str]:
        """Names of the classes of a split. Raises ``ConfigError`` for pictures beside subfolders of pictures."""
        path = self._paths[name]
        found = {picture_class(file, path) for file in self._files[name]}
        if None in found and len(found) > 1:
            reason = "has pictures both directly in it and in subfolders, which are classes"
            raise ConfigError(_option(name), path, reason, "one or the other")
        return sorted(own for own in found if own is not None)

    def _labels(self, name: Split, files: Iterable[Path]) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        own = [picture_class(file, self._paths[name]) for file in files]
        return np.array([self.classes.index(label) for label in own if label is not None]) if own[0] else None

    def _doubt(self, name: Split, failed: Sequence[Path]) -> str:
        path = self._paths[name]
        names = [file.relative_to(placed(path)).as_posix() for file in failed[:_NAMED]]
        more = ", ..." if len(failed) > _NAMED else ""
        total = len(self._files[name])
        return f"{len(failed)} of {total} pictures in {path} cannot be decoded: {', '.join(names)}{more}"


def _option(name: Split) -> str:
    return "path" if name == "train" else f"{name}_path"
