"""Contexts: the token sequences that a model is run on, cut from documents."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from sparse_ae.atomic import write_atomically
from sparse_ae.config.errors import ConfigError

Packing = Literal["pack", "pad"]
Ids = npt.NDArray[np.int32]

SHARD_ROWS = 2**15
"""Number of rows of a shard, which may exceed it by less than a context."""
_AT_ONCE = 256
"""Number of documents tokenised in one call, by several threads."""


class Span(NamedTuple):
    """Contexts from ``first`` to before ``last``."""

    first: int
    last: int


class Contexts(NamedTuple):
    """Token sequences one after the other, and which of their tokens give rows."""

    token: Tensor
    """Token ids, int32 ``(n_tokens,)``."""
    document: Tensor
    """Number of the document that a token is of, int32 ``(n_tokens,)``; a special token has that of a neighbour."""
    is_row: Tensor
    """True for tokens whose activation is a row, ``(n_tokens,)``."""
    start: Tensor
    """Place of the first token of each context, and the number of tokens, int64 ``(n + 1,)``."""

    @property
    def number(self) -> int:
        """Number of contexts."""
        return len(self.start) - 1

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.is_row.sum())

    def tokens(self, i: int) -> Tensor:
        """Token ids of context ``i``, ``(T,)``."""
        return self.token[self.start[i] : self.start[i + 1]]

    def shards(self) -> list[Span]:
        """Return the contexts of each shard: a function of the text and of no option that only changes the speed."""
        before = torch.cat([torch.zeros(1, dtype=torch.int64), self.is_row.cumsum(0)])[self.start[:-1]]
        is_first = torch.cat([torch.ones(1), (before // SHARD_ROWS).diff()])
        first = is_first.nonzero()[:, 0].tolist()
        return [Span(*span) for span in zip(first, [*first[1:], self.number], strict=True)]

    def count(self, span: Span) -> int:
        """Number of rows of the contexts in ``span``."""
        return int(self.is_row[self._place(span)].sum())

    def column(self, name: str, span: Span | None = None) -> Tensor:
        """``token``, ``document``, ``context`` or ``position`` of each row, of all contexts or of a span, int32."""
        span = span or Span(0, self.number)
        place = self._place(span)
        begin, length = self.start[span.first : span.last], self.start[span.first : span.last + 1].diff()
        if name == "context":
            values = torch.arange(span.first, span.last, dtype=torch.int32).repeat_interleave(length)
        elif name == "position":
            values = (torch.arange(place.start, place.stop) - begin.repeat_interleave(length)).int()
        else:
            values = getattr(self, name)[place]
        return values[self.is_row[place]]

    def batches(self, span: Span, size: int, pad: int) -> Iterator["TokenBatch"]:
        """Yield the contexts in ``span``, ``size`` at a time, each padded to the longest of them."""
        for begin in range(span.first, span.last, size):
            part = Span(begin, min(begin + size, span.last))
            place, length = self._place(part), self.start[part.first : part.last + 1].diff()
            inside = torch.arange(int(length.max())) < length[:, None]
            token, is_row = torch.full(inside.shape, pad), torch.zeros_like(inside)
            token[inside] = self.token[place].long()
            is_row[inside] = self.is_row[place]
            yield TokenBatch(token, inside.long(), is_row.flatten().nonzero()[:, 0])

    def _place(self, span: Span) -> slice:
        return slice(int(self.start[span.first]), int(self.start[span.last]))

    def save(self, file: Path) -> None:
        """Write them to ``file``."""
        write_atomically(file, save(self._asdict()))

    @classmethod
    def load(cls, file: Path) -> "Contexts":
        """Read them from ``file``."""
        return cls(**load_file(file))


class Tokens(NamedTuple):
    """Place in the text of each row of a split, int64 ``(n,)`` each."""

    token: Tensor
    """Token id."""
    position: Tensor
    """Place in the context, from 0."""
    context: Tensor
    """Number of the context in ``Contexts``."""
    document: Tensor
    """Number of the document in the text."""


class TokenBatch(NamedTuple):
    """Contexts side by side, padded on the right."""

    token: Tensor
    """Token ids, int64 ``(B, T)``."""
    mask: Tensor
    """1 for tokens, 0 for padding, int64 ``(B, T)``."""
    rows: Tensor
    """Places of the tokens that give rows in the flattened batch, ``(n_rows,)``."""


def cut(
    texts: Iterable[str],
    tokenizer: Any,
    *,
    context: int,
    packing: Packing,
    special_tokens: bool,
    most_rows: int | None = None,
) -> Contexts:
    """Tokenise documents and cut them into contexts of at most ``context`` tokens.

    With ``pad``, every document begins a context of its own; with ``pack``, documents follow each other, ended by the
    tokeniser's eos or sep token. Each context has the special tokens around it that the tokeniser gives to a text.
    Special tokens give rows only with ``special_tokens``; that of an unknown word counts as a word. Documents are read
    until there are ``most_rows`` rows. Raises ``ConfigError`` for a context too short for the special tokens.
    """
    prefix, suffix = _around(tokenizer)
    width = context - len(prefix) - len(suffix)
    if width < 1:
        least = len(prefix) + len(suffix) + 1
        raise ConfigError("context", context, "has no room beside the special tokens", f"at least {least}")
    separator = _separator(tokenizer) if packing == "pack" else None
    special = np.array(sorted(special_ids(tokenizer)), dtype=np.int32)
    numbers, bodies = _tokenised(texts, tokenizer, special, most_rows)
    if separator is not None:
        bodies = [np.append(ids, np.int32(separator)) for ids in bodies]
    of_token = [np.full(len(ids), number, dtype=np.int32) for number, ids in zip(numbers, bodies, strict=True)]
    if separator is not None and bodies:
        bodies, of_token = [np.concatenate(bodies)], [np.concatenate(of_token)]
    token, document, start = [], [], [0]
    for ids, of in zip(bodies, of_token, strict=True):
        for begin in range(0, len(ids), width):
            part, own = ids[begin : begin + width], of[begin : begin + width]
            token += [prefix, part, suffix]
            document += [np.full(len(prefix), own[0]), own, np.full(len(suffix), own[-1])]
            start.append(start[-1] + len(prefix) + len(part) + len(suffix))
    return _contexts(token, document, start, special if not special_tokens else special[:0], most_rows)


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that stand for no text: all special ones but that of an unknown word."""
    words = {name: token for name, token in tokenizer.special_tokens_map.items() if name != "unk_token"}
    tokens = [token for value in words.values() for token in ([value] if isinstance(value, str) else value)]
    return set(tokenizer.convert_tokens_to_ids(tokens))


def _contexts(
    token: Sequence[Ids], document: Sequence[Ids], start: Sequence[int], special: Ids, most_rows: int | None
) -> Contexts:
    """Join the parts; contexts after the last row are dropped."""
    ids = np.concatenate([*token, np.empty(0, dtype=np.int32)])
    is_row = ~np.isin(ids, special)
    count = is_row.cumsum()
    if most_rows is not None and len(ids):
        is_row &= count <= most_rows
    end = int(is_row.nonzero()[0][-1]) + 1 if is_row.any() else 0
    stops = np.array(start, dtype=np.int64)
    stops = stops[: np.searchsorted(stops, end) + 1]
    of = np.concatenate([*document, np.empty(0, dtype=np.int32)]).astype(np.int32)
    n = int(stops[-1])
    return Contexts(*map(torch.from_numpy, (ids[:n].astype(np.int32), of[:n], is_row[:n], stops)))


def _tokenised(
    texts: Iterable[str], tokenizer: Any, special: Ids, most_rows: int | None
) -> tuple[list[int], list[Ids]]:
    """Numbers and token ids of the documents that have any, until there are enough tokens."""
    numbers, found, count, begin, source = [], [], 0, 0, iter(texts)
    while (part := list(islice(source, _AT_ONCE))) and (most_rows is None or count < most_rows):
        encoded = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        for number, ids in enumerate((np.array(ids, dtype=np.int32) for ids in encoded), start=begin):
            if len(ids):
                numbers.append(number)
                found.append(ids)
                count += int((~np.isin(ids, special)).sum())
        begin += len(part)
    return numbers, found


def _around(tokenizer: Any) -> tuple[Ids, Ids]:
    """Special tokens that the tokeniser puts before and after a text."""
    plain, full = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    for i in range(len(full) - len(plain) + 1):
        if full[i : i + len(plain)] == plain:
            return np.array(full[:i], dtype=np.int32), np.array(full[i + len(plain) :], dtype=np.int32)
    return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)


def _separator(tokenizer: Any) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return int(token)
    raise ConfigError("packing", "pack", "the tokeniser has no eos or sep token to stand between documents", "pad")
