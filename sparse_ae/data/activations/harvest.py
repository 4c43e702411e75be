"""Harvest: one pass of a model over contexts, shard after shard, into the caches of one layer or several."""

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from rich.filesize import decimal
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.cache import COLUMNS, Cache
from sparse_ae.data.activations.language_model import LanguageModel
from sparse_ae.data.activations.tokens import Contexts, Span
from sparse_ae.data.progress import Progress
from sparse_ae.lock import describe_holder, hold, is_held

ValueType = Literal["float16", "bfloat16", "float32"]
"""Types of values that activations are kept in."""

Caches = Mapping[str, Cache]
"""Caches by layer."""

_SPARE_BYTES = 2**20
"""Room for everything but shards."""


class Harvest(NamedTuple):
    """A model, the contexts that it is run on, and what is kept of its activations."""

    model: LanguageModel
    contexts: Contexts
    dtype: ValueType = "float16"
    """Type of the values kept."""
    max_norm_ratio: float | None = None
    """Largest norm of a row that is kept, relative to the median of the first shard; None for all rows."""
    batch_size: int = 32
    """Number of contexts that the model is run on at a time."""

    def fill(self, caches: Caches, device: torch.device) -> None:
        """Fill the caches that are not whole, in one pass; a process that is at it already is waited for.

        A harvest that was stopped continues after its last shard, and of a damaged cache only damaged shards are
        harvested. Shards depend neither on that nor on ``batch_size``, but for the last digits of their values. Raises
        ``ConfigError`` for a disk with too little room and for values that are not finite, and ``OSError`` of one line
        if a cache cannot be written.
        """
        root = next(iter(caches.values())).folder.parent
        with _writing_into(root), ExitStack() as stack:
            for cache in sorted(caches.values(), key=lambda cache: cache.folder):  # no two wait for each other
                stack.enter_context(_locked(cache))
            missing = {layer: cache for layer, cache in caches.items() if not cache.is_whole}
            spans = self.contexts.shards()
            todo = [{layer: c for layer, c in missing.items() if not c.has(i)} for i in range(len(spans))]
            if any(todo):
                self._check_room(spans, todo, root)
            for cache in missing.values():
                if fault := cache.fault():
                    warnings.warn(f"{cache.folder} {fault}", stacklevel=2)
                cache.begin(self.contexts, self.model.tokenizer)
            self._pass(spans, todo, device)
            for cache in missing.values():
                cache.finish()

    def _pass(self, spans: Sequence[Span], todo: Sequence[Caches], device: torch.device) -> None:
        """Harvest shards, each written by a thread while the model is run for the next."""
        self.model.move(device)
        total = sum(self.contexts.count(span) for span, caches in zip(spans, todo, strict=True) if caches)
        written: Future[None] | None = None
        with Progress("harvesting", total) as advance, ThreadPoolExecutor(1) as writer, _exact():
            for number, (span, caches) in enumerate(zip(spans, todo, strict=True)):
                if caches:
                    rows = self._rows(span, list(caches), advance)
                    if written is not None:
                        written.result()
                    written = writer.submit(self._write, number, span, rows, caches)
            if written is not None:
                written.result()

    def _rows(self, span: Span, layers: Sequence[str], advance: Callable[[int], None]) -> dict[str, Tensor]:
        """Rows ``(n_rows, D)`` of each layer for the contexts of ``span``."""
        dtype = getattr(torch, self.dtype)
        parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        for batch in self.contexts.batches(span, self.batch_size, self.model.padding):
            for layer, rows in self.model.activations(batch, layers).items():
                parts[layer].append(rows.to(dtype))
            advance(len(batch.rows))
        return {layer: torch.cat(part).cpu() for layer, part in parts.items()}  # a GPU is waited for once

    def _write(self, number: int, span: Span, rows: Mapping[str, Tensor], caches: Caches) -> None:
        columns = {name: self.contexts.column(name, span) for name in COLUMNS}
        for layer, cache in caches.items():
            cache.write(number, rows[layer], columns, self.max_norm_ratio)

    def _check_room(self, spans: Sequence[Span], todo: Sequence[Caches], root: Path) -> None:
        """Tell what the harvest will take. Raises ``ConfigError`` if there is not so much room."""
        layers = sorted({layer for caches in todo for layer in caches})
        of_columns = len(COLUMNS) * torch.int32.itemsize
        row_bytes = {
            layer: self.model.width(layer) * getattr(torch, self.dtype).itemsize + of_columns for layer in layers
        }
        counts = [self.contexts.count(span) for span in spans]
        size = sum(n * row_bytes[layer] for n, caches in zip(counts, todo, strict=True) for layer in caches)
        size += len(layers) * (_SPARE_BYTES + sum(tensor.nbytes for tensor in self.contexts))
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
        if size > free:
            reason = f"the activations take {decimal(size)}, and {decimal(free)} are free in {root}"
            raise ConfigError("data.n", reason=reason, expected="fewer rows, or data.root with more room")
        left = sum(n for n, caches in zip(counts, todo, strict=True) if caches)
        line = f"harvesting {left:,} rows of {', '.join(layers)} in {self.model.name}"
        print(f"{line}: {decimal(size)} of {decimal(free)} free in {root}", flush=True)


@contextmanager
def _locked(cache: Cache) -> Iterator[None]:
    file = cache.folder.with_name(f".{cache.folder.name}.lock")
    if is_held(file):
        print(f"waiting for {describe_holder(file)}, which harvests {cache.folder.name}", flush=True)
    with hold(file, wait=math.inf):
        yield


@contextmanager
def _writing_into(root: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside ``with`` into one of a line that says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"data.root: cannot write activations into {root} ({error.strerror or error}); "
            "set data.root or SPARSE_AE_DATA to a folder that has room and can be written. Whole shards are kept"
        ) from error


@contextmanager
def _exact() -> Iterator[None]:
    """Inside ``with``, products have full precision: a cache serves runs with any ``matmul_precision``."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
