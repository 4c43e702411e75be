"""Contexts: the token sequences that a model is run on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from sparse_ae.atomic import write_atomically

SHARD_ROWS = 2**15
"""Number of rows of a shard, which may exceed it by less than a context."""
_AT_ONCE = 2**12
"""Number of contexts whose rows are counted at a time."""


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
        if not self.number:
            return []
        firsts = range(0, self.number, _AT_ONCE)
        counts = [self._counts(Span(first, min(first + _AT_ONCE, self.number))) for first in firsts]
        rows = np.concatenate(counts)
        before = torch.from_numpy(rows.cumsum() - rows)
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

    def _counts(self, span: Span) -> npt.NDArray[np.int64]:
        """Number of rows of each context in ``span``, none of which is empty."""
        begin = (self.start[span.first : span.last] - self.start[span.first]).numpy()
        return np.add.reduceat(self.is_row[self._place(span)].numpy(), begin, dtype=np.int64)  # copies as int64

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


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that stand for no text: all special ones but that of an unknown word."""
    named = {name: token for name, token in tokenizer.special_tokens_map.items() if name != "unk_token"}
    tokens = [token for value in named.values() for token in ([value] if isinstance(value, str) else value)]
    known = tokenizer.get_vocab()
    unnamed = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {known[token] for token in tokens if token in known} | (unnamed - {tokenizer.unk_token_id})
