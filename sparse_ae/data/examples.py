"""Examples: what to show of a row, where the values themselves say nothing to a reader."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class Piece(NamedTuple):
    """A piece of text."""

    text: str
    """Text to show: what would be invisible has a sign in its place."""
    rows: tuple[int, ...]
    """Rows whose tokens it shows: none for a token without a row, several for tokens that share a character."""


class Window(NamedTuple):
    """Part of a text with one token marked."""

    pieces: list[Piece]
    """Pieces in the order of the text."""
    marked: int
    """Place in ``pieces`` of the marked token."""


class Text(Protocol):
    """Rows ``(n, D)`` that are tokens in a text."""

    @property
    def token(self) -> Tensor:
        """Token id of each row, int64 ``(n,)``."""

    @property
    def passage(self) -> Tensor:
        """Number of the passage that each row is of, int64 ``(n,)``: a window shows a part of one passage."""

    def names(self, tokens: Sequence[int]) -> list[str]:
        """Names of token ids, as they are searched for."""

    def window(self, row: int, before: int, after: int) -> Window:
        """Text around a row's token, which is marked, with at most that many pieces before and after it."""
