"""Cut text into contexts, piece by piece: memory holds the tokens so far and little more."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.activations.corpus import Piece
from sparse_ae.data.activations.tokens import Contexts, special_ids

Packing = Literal["pack", "pad"]
Ids = npt.NDArray[np.int32]

_PIECES, _CHARACTERS = 256, 2**20
"""Largest numbers of pieces and of characters tokenised in one call, by several threads; one piece may be longer."""


def cut(
    pieces: Iterable[Piece],
    tokenizer: Any,
    *,
    context: int,
    packing: Packing,
    special_tokens: bool,
    most_rows: int | None = None,
) -> Contexts:
    """Tokenise the pieces of documents and cut them into contexts of at most ``context`` tokens.

    With ``pad``, every document begins a context of its own; with ``pack``, documents follow each other, ended by the
    tokeniser's eos or sep token. Each context has the special tokens around it that the tokeniser gives to a text.
    Special tokens give rows only with ``special_tokens``; that of an unknown word counts as a word. Pieces are read
    until there are ``most_rows`` rows. Raises ``ConfigError`` for a context too short for the special tokens.
    """
    around = _around(tokenizer)
    width = context - len(around.prefix) - len(around.suffix)
    if width < 1:
        least = context - width + 1
        raise ConfigError("context", context, "has no room beside the special tokens", f"at least {least}")
    separator = np.array([_separator(tokenizer)], dtype=np.int32) if packing == "pack" else None
    special = np.array([] if special_tokens else sorted(special_ids(tokenizer)), dtype=np.int32)
    writer = _Writer(around, width, special, most_rows)
    last = None
    for number, ids in _tokenised(pieces, tokenizer):
        if last is not None and number != last:
            writer.end_document(last, separator)
        writer.add(number, ids)
        last = number
        if writer.is_full:
            break
    if last is not None:
        writer.end_document(last, separator)
    return writer.finish()


class _Around(NamedTuple):
    """Special tokens that a tokeniser puts around a text."""

    prefix: Ids
    """Before it."""
    suffix: Ids
    """After it."""


class _Writer:
    """Contexts in the making, in buffers that grow in place, and tokens that wait until they fill one."""

    def __init__(self, around: _Around, width: int, special: Ids, most_rows: int | None) -> None:
        self._around, self._width, self._special, self._most_rows = around, width, special, most_rows
        self._rows = 0
        self._token, self._document, self._is_row, self._length = (bytearray() for _ in range(4))
        self._waiting = self._of_waiting = np.empty(0, dtype=np.int32)

    @property
    def is_full(self) -> bool:
        """True once there are as many rows as are wanted."""
        return self._most_rows is not None and self._rows >= self._most_rows

    def add(self, document: int, ids: Ids) -> None:
        """Append tokens of a document."""
        self._waiting = np.append(self._waiting, ids)
        self._of_waiting = np.append(self._of_waiting, np.full(len(ids), document, dtype=np.int32))
        self._write(len(self._waiting) // self._width, self._width)

    def end_document(self, document: int, separator: Ids | None) -> None:
        """Append the separator, or without one end the context."""
        if separator is None:
            self._write(1, len(self._waiting))
        else:
            self.add(document, separator)

    def finish(self) -> Contexts:
        """Return the contexts up to the last that has a row."""
        self._write(1, len(self._waiting))
        is_row = np.frombuffer(self._is_row, dtype=np.bool_)
        end = len(is_row) - int(is_row[::-1].argmax()) if is_row.any() else 0
        start = np.append(0, np.frombuffer(self._length, dtype=np.int32).cumsum(dtype=np.int64))
        start = start[: np.searchsorted(start, end) + 1]
        token, document = (np.frombuffer(buffer, dtype=np.int32) for buffer in (self._token, self._document))
        n = int(start[-1])
        return Contexts(*map(torch.from_numpy, (token[:n], document[:n], is_row[:n], start)))

    def _write(self, n: int, width: int) -> None:
        """Make ``n`` contexts of ``width`` waiting tokens each, with special tokens around them."""
        if not n * width:
            return
        ids, of = (waiting[: n * width].reshape(n, width) for waiting in (self._waiting, self._of_waiting))
        self._waiting, self._of_waiting = self._waiting[n * width :], self._of_waiting[n * width :]
        prefix, suffix = self._around
        token = np.hstack([np.tile(prefix, (n, 1)), ids, np.tile(suffix, (n, 1))])
        document = np.hstack([of[:, :1].repeat(len(prefix), 1), of, of[:, -1:].repeat(len(suffix), 1)])
        is_row = ~np.isin(token, self._special).ravel()
        if self._most_rows is not None:
            is_row &= is_row.cumsum() <= self._most_rows - self._rows
        self._rows += int(is_row.sum())
        for buffer, array in ((self._token, token), (self._document, document), (self._is_row, is_row)):
            buffer += array.tobytes()
        self._length += np.full(n, token.shape[1], dtype=np.int32).tobytes()


def _tokenised(pieces: Iterable[Piece], tokenizer: Any) -> Iterator[tuple[int, Ids]]:
    """Yield the number of the document and the token ids of each piece that has any."""
    keeps_space = _keeps_space(tokenizer)
    last = None
    for batch in _batches(pieces):
        texts = []
        for number, text in batch:
            texts.append(text if keeps_space or number != last else text.removeprefix(" "))
            last = number
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        for (number, _), ids in zip(batch, encoded, strict=True):
            if len(ids):
                yield number, np.array(ids, dtype=np.int32)


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[1])
        if len(batch) == _PIECES or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _keeps_space(tokenizer: Any) -> bool:
    """True unless a text that continues after a space has to be given without it, as where a word begins with one."""
    whole, first, with_space, without = tokenizer(["a b", "a", " b", "b"], add_special_tokens=False)["input_ids"]
    return bool(first + with_space == whole or first + without != whole)


def _around(tokenizer: Any) -> _Around:
    """Special tokens that the tokeniser puts before and after a text."""
    plain, full = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    for i in range(len(full) - len(plain) + 1):
        if full[i : i + len(plain)] == plain:
            return _Around(*(np.array(ids, dtype=np.int32) for ids in (full[:i], full[i + len(plain) :])))
    return _Around(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32))


def _separator(tokenizer: Any) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return int(token)
    raise ConfigError("packing", "pack", "the tokeniser has no eos or sep token to stand between documents", "pad")
