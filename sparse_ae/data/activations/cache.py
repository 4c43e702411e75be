"""Activations of one layer on disk: shards of rows with their tokens, each with a digest, and a manifest.

rows/0.safetensors, ...     rows (n, D), and token, position, context, document (n,), int32
rows/0.json, ...            a record of each shard, written after it
contexts.safetensors        all tokens that the model has seen, also those that give no rows; see ``Contexts``
tokenizer/                  to decode them
manifest.json               written last
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor

from sparse_ae.atomic import write_atomically
from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.tokens import Contexts
from sparse_ae.data.content import digest
from sparse_ae.data.files import natural_order
from sparse_ae.data.rows import Rows, open_labels, open_rows

VERSION = 2
"""Version of what is written, to be raised whenever the same options give other rows."""

COLUMNS = ("token", "position", "context", "document")
"""Arrays beside the rows."""

R = TypeVar("R", bound=tuple[Any, ...])


class Shard(NamedTuple):
    """Record of a shard."""

    version: int
    rows: int
    """Number of rows in it."""
    left_out: int
    """Number of rows left out for their norm."""
    median_norm: float
    """Median norm of the first shard's rows, also of those left out."""
    digest: str
    """Digest of the file."""


class Manifest(NamedTuple):
    """Description of a finished cache."""

    version: int
    rows: int
    """Number of rows."""
    left_out: int
    """Number of rows left out for their norm."""
    median_norm: float
    """Median norm of the first shard's rows, also of those left out."""
    dim: int
    """Number of values in a row, D."""
    digest: str
    """Digest of all other files but the records."""
    recipe: Mapping[str, Any] = {}
    """All that the rows depend on: layer, options, digest of model and text; its own digest names the folder."""


class Cache:
    """Folder of the activations of one layer; ``recipe`` is for its manifest."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any] | None = None) -> None:
        self.folder, self.recipe = folder, recipe or {}

    @property
    def rows(self) -> Rows:
        """Rows ``(n, D)``, ordered by context and position."""
        return open_rows(self.folder / "rows", "rows")

    def column(self, name: str) -> Tensor:
        """One of ``COLUMNS``, int64 ``(n,)``."""
        return open_labels(self.folder / "rows", name).number

    @cached_property
    def contexts(self) -> Contexts:
        """Tokens that the model has seen."""
        return Contexts.load(self.folder / "contexts.safetensors")

    @cached_property
    def tokenizer(self) -> Any:
        """Tokeniser, to decode tokens."""
        from sparse_ae.data.activations.loading import load_tokenizer

        return load_tokenizer(self.folder / "tokenizer", str(self.folder))

    def manifest(self) -> Manifest | None:
        """Manifest of a cache that was finished by this version; its files are not looked at."""
        manifest = _read(self.folder / "manifest.json", Manifest)
        return manifest if manifest is not None and manifest.version == VERSION else None

    def fault(self) -> str | None:
        """A clause about a cache that was finished and cannot be used; None for one that was not, or that can."""
        file = self.folder / "manifest.json"
        if not file.exists():
            return None
        manifest = _read(file, Manifest)
        if manifest is None:
            return "is damaged; what is damaged is harvested again"
        if manifest.version != VERSION:
            versions = f"{manifest.version}, not {VERSION}"
            return f"was written by another version of this package ({versions}); it is harvested again"
        if digest(self._files()) != manifest.digest:
            return "is damaged; what is damaged is harvested again"
        return None

    @property
    def is_whole(self) -> bool:
        """True if it is finished and undamaged."""
        return self.manifest() is not None and self.fault() is None

    # Writing, by one process at a time.

    def begin(self, contexts: Contexts, tokenizer: Any) -> None:
        """Write everything but rows, and remove whatever does not belong here."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        shards = self.folder / "rows"
        shards.mkdir(parents=True, exist_ok=True)
        expected = {f"{i}.{end}" for i in range(len(contexts.shards())) for end in ("safetensors", "json")}
        for file in [*shards.iterdir(), *self.folder.glob(".*")]:
            if file.name not in expected:  # half a file of a process that was killed
                file.unlink()
        contexts.save(self.folder / "contexts.safetensors")
        tokenizer.save_pretrained(self.folder / "tokenizer")

    def has(self, number: int) -> bool:
        """True if a shard is there, undamaged and of this version."""
        record = self._record(number)
        file = self._shard(number)
        return record is not None and file.exists() and digest([file]) == record.digest

    def write(self, number: int, rows: Tensor, columns: dict[str, Tensor], ratio: float | None) -> None:
        """Write shard ``number``: ``rows (n, D)`` and their ``columns``, but for rows of too large a norm.

        ``ratio`` is that to the median norm of the first shard. Raises ``ConfigError`` for values not finite.
        """
        norm = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
        if not norm.isfinite().all():
            kind = str(rows.dtype).removeprefix("torch.")
            reason = "the layer gives values that are no finite numbers, or too large for this type"
            raise ConfigError("data.dtype", kind, reason, "bfloat16 or float32, if the model is sound")
        first = self._record(0)
        median = float(norm.median()) if first is None else first.median_norm
        keep = torch.ones_like(norm, dtype=torch.bool) if ratio is None else norm <= ratio * median
        if not keep.all():
            rows, columns = rows[keep], {name: column[keep] for name, column in columns.items()}
        file = self._shard(number)
        write_atomically(file, save({"rows": rows, **columns}))
        record = Shard(VERSION, len(rows), len(keep) - len(rows), median, digest([file]))
        write_atomically(file.with_suffix(".json"), json.dumps(record._asdict()).encode())

    def finish(self) -> None:
        """Write the manifest."""
        records = [self._record(number) for number in range(len(self._shards()))]
        whole = [record for record in records if record is not None]
        assert len(whole) == len(records)
        manifest = Manifest(
            VERSION,
            sum(record.rows for record in whole),
            sum(record.left_out for record in whole),
            whole[0].median_norm,
            self.rows.dim,
            digest(self._files()),
            self.recipe,
        )
        write_atomically(self.folder / "manifest.json", json.dumps(manifest._asdict(), indent=1).encode())

    def _record(self, number: int) -> Shard | None:
        record = _read(self._shard(number).with_suffix(".json"), Shard)
        return record if record is not None and record.version == VERSION else None

    def _shard(self, number: int) -> Path:
        return self.folder / "rows" / f"{number}.safetensors"

    def _shards(self) -> list[Path]:
        return sorted((self.folder / "rows").glob("*.safetensors"), key=lambda file: natural_order(file.name))

    def _files(self) -> list[Path]:
        texts = sorted(file for file in (self.folder / "tokenizer").rglob("*") if file.is_file())
        contexts = self.folder / "contexts.safetensors"
        return [*self._shards(), *([contexts] if contexts.exists() else []), *texts]


def _read(file: Path, kind: type[R]) -> R | None:
    """A record, without fields that another version added; None if there is none, or a damaged one."""
    try:
        known = json.loads(file.read_bytes())
        return kind(**{name: known[name] for name in kind._fields if name in known})  # type: ignore[attr-defined]
    except (OSError, TypeError, ValueError):
        return None
