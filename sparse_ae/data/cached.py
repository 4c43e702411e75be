"""Datasets whose rows are computed into a folder, once, before training."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

from sparse_ae.data.module import DataModule

M = TypeVar("M", bound=tuple[Any, ...])


class Cached(DataModule, Generic[M]):
    """Rows in a folder that is named by what they depend on. Before they are there, ``count`` may give too many."""

    _manifest: M | None = None
    """Description of the finished folder; None before."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Folder of the rows."""

    @abstractmethod
    def compute(self) -> M:
        """Compute the rows, or find them, and return the manifest of their folder."""

    def prepare_data(self) -> None:
        """Compute the rows, unless they are there. Raises as ``compute`` does, and ``ConfigError`` for too few rows."""
        if self._manifest is None:
            self._manifest = self.compute()
            self.recount()

    def recount(self) -> None:
        """Find the sizes of the splits anew, from the number of rows that there are."""
        for known in ("sizes", "_parts"):
            self.__dict__.pop(known, None)
        self._check_sizes()

    def setup(self, stage: str) -> None:
        self.prepare_data()  # in processes that did not compute
        super().setup(stage)

    @property
    def fingerprint(self) -> str | None:
        return self.folder.name
