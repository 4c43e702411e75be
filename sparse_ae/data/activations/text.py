"""Rows of a split as tokens in their contexts, for what shows them."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sparse_ae.data.activations.pieces import Pieces
from sparse_ae.data.activations.tokens import Tokens, special_ids
from sparse_ae.data.examples import Piece, Window
from sparse_ae.data.splits import Split

if TYPE_CHECKING:
    from sparse_ae.data.activations.module import Activations


class _Passage(NamedTuple):
    pieces: list[Piece]
    place: dict[int, int]
    """Place in ``pieces`` of each row."""


class ContextText:
    """The first ``n`` rows of a split in their text; a ``Text``. Nothing is read before it is asked for.

    A passage is what a context has of one document: what the model saw at once, without the documents before and after.
    Special tokens are left out, unless they have rows.
    """

    def __init__(self, data: "Activations", split: Split, n: int) -> None:
        self.data, self.split, self.n = data, split, n
        self._known: dict[int, _Passage] = {}

    @property
    def token(self) -> Tensor:
        return self._tokens.token

    @cached_property
    def passage(self) -> Tensor:
        both = torch.stack([self._tokens.context, self._tokens.document])
        number: Tensor = both.unique(dim=1, return_inverse=True)[1]
        return number

    def names(self, tokens: Sequence[int]) -> list[str]:
        return self._pieces.names(tokens)

    def window(self, row: int, before: int, after: int) -> Window:
        number = int(self.passage[row])
        if number not in self._known:
            self._known[number] = self._read(number)
        pieces, place = self._known[number]
        first = max(place[row] - before, 0)
        return Window(pieces[first : place[row] + after + 1], place[row] - first)

    @cached_property
    def _tokens(self) -> Tokens:
        columns = self.data.tokens(self.split)
        return type(columns)(*(column[: self.n] for column in columns))

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self.data.tokenizer)

    @cached_property
    def _special(self) -> Tensor:
        return torch.tensor(sorted(special_ids(self.data.tokenizer)))

    @cached_property
    def _rows(self) -> Sequence[Tensor]:
        """Rows of each passage."""
        rows: Sequence[Tensor] = self.passage.argsort(stable=True).split(self.passage.bincount().tolist())
        return rows

    def _read(self, number: int) -> _Passage:
        rows = self._rows[number]
        context, document = (int(column[rows[0]]) for column in (self._tokens.context, self._tokens.document))
        contexts = self.data.contexts
        place = slice(int(contexts.start[context]), int(contexts.start[context + 1]))
        token = contexts.token[place].long()
        shown = contexts.is_row[place] | ~torch.isin(token, self._special)
        position = (shown & (contexts.document[place] == document)).nonzero()[:, 0]
        row_at = dict(zip(self._tokens.position[rows].tolist(), rows.tolist(), strict=True))
        pieces: list[Piece] = []
        place_of: dict[int, int] = {}
        begin = 0
        for part in self._pieces.parts(token[position].tolist()):
            here = position[begin : begin + part.tokens].tolist()
            own = tuple(row_at[at] for at in here if at in row_at)
            place_of |= dict.fromkeys(own, len(pieces))
            pieces.append(Piece(part.text, own))
            begin += part.tokens
        return _Passage(pieces, place_of)
