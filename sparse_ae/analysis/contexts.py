"""Contexts that activate units most, of data that are text: for figures, and as the data of the page of a run's units.

A unit's activity is |z|, which for codes >= 0 is the code itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.analysis.tokens import Vocabulary, top_tokens
from sparse_ae.data.examples import Text, Window
from sparse_ae.plotting.text import Paragraph, Span, centred, paragraphs

DOCUMENT = "units"
"""Name under which analyses write ``document``."""
BEFORE, AFTER = 20, 14
"""Pieces of text before and after the marked one."""
UNITS, CONTEXTS = 8, 8
"""Number of units that a figure shows, and of contexts of each, where no option tells."""
_MOST_WINDOWS = 2**16
"""Number of contexts, and of units, that a page has room for."""
LEAST_SHOWN = 0.005
"""Least share of a token that figures show: 1% if rounded."""
_TOKENS = 8
"""Top tokens of a unit."""
_VALUES, _MOST_UNITS = 2**24, 1024
"""Number of codes in memory at a time, and of units that they are of."""


class Context(NamedTuple):
    """A window around a token, and the codes of one unit in it."""

    row: int
    """Row of the sample whose token is marked."""
    window: Window
    """Pieces of text."""
    codes: list[float | None]
    """Code of each piece, of several rows the one of largest activity; None for a piece without rows."""


class UnitContexts(NamedTuple):
    """A unit by the text that activates it."""

    unit: int
    """Number of the unit."""
    frequency: float
    """Lifetime sparsity."""
    largest: float
    """Its code of largest activity."""
    tokens: list[int]
    """Tokens with the largest shares of its activity."""
    shares: list[float]
    """These shares."""
    contexts: list[Context]
    """Contexts of largest activity, from different passages, largest first; none for a dead unit."""


def unit_blocks(subject: Subject, units: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``units (n,)`` in parts, each with its codes ``(B, n')``."""
    for part in units.split(min(max(_VALUES // len(subject.x), 1), _MOST_UNITS)):
        yield part, subject.codes.units(part)


def contexts_of(subject: Subject, text: Text, units: Tensor, k: int) -> Iterator[UnitContexts]:
    """Yield for each of ``units (n,)`` the ``k`` passages that activate it most, where they do so most."""
    vocabulary = Vocabulary.of(text.token)
    finder = _Finder.of(text.passage)
    for some, z in unit_blocks(subject, units):
        activity = z.abs()
        tokens = top_tokens(activity.numpy(), vocabulary, _TOKENS, subject.sample.threshold)
        rows = finder.top(activity, k).tolist()
        for i, unit in enumerate(some.tolist()):
            code = z[:, i].numpy()
            found = [_context(text, row, code) for row in rows[i] if row >= 0]
            has = tokens.token[i] >= 0
            yield UnitContexts(
                unit,
                int(tokens.activating[i]) / len(text.token),
                float(code[rows[i][0]]) if found else 0.0,
                tokens.token[i][has].tolist(),
                tokens.share[i][has].tolist(),
                found,
            )


def names_of(subject: Subject, text: Text, units: Tensor) -> list[str]:
    """Names of the top tokens of living ``units (n,)``, one of each."""
    vocabulary, threshold = Vocabulary.of(text.token), subject.sample.threshold
    parts = [top_tokens(z.abs().numpy(), vocabulary, 1, threshold).token[:, 0] for _, z in unit_blocks(subject, units)]
    return text.names(np.concatenate(parts).tolist())


def _context(text: Text, row: int, code: npt.NDArray[np.floating]) -> Context:
    """The window around a row, and the ``code (B,)`` of its pieces."""
    window = text.window(row, BEFORE, AFTER)
    codes = [max((float(code[of]) for of in piece.rows), key=abs, default=None) for piece in window.pieces]
    return Context(row, window, codes)


class _Finder(NamedTuple):
    """Rows of each of S passages."""

    passage: Tensor
    """Passage of each row, ``(B,)``."""
    order: Tensor
    """Rows by passage, ``(B,)``."""
    start: Tensor
    """Place in ``order`` of the first row of each passage, ``(S,)``."""
    length: Tensor
    """Number of rows of each passage, ``(S,)``."""

    @classmethod
    def of(cls, passage: Tensor) -> "_Finder":
        length = passage.bincount()
        return cls(passage, passage.argsort(stable=True), length.cumsum(0) - length, length)

    def top(self, activity: Tensor, k: int) -> Tensor:
        """Rows of the largest ``activity (B, n)``, one of a passage, ``(n, k')``, largest first; -1 where it is 0."""
        n, number = activity.shape[1], len(self.length)
        largest = torch.zeros(number, n).scatter_reduce(0, self.passage[:, None].expand(-1, n), activity, "amax")
        largest, passages = (ranked[:k].T for ranked in largest.sort(dim=0, descending=True, stable=True))
        step = torch.arange(int(self.length.max()))
        rows = torch.empty_like(passages)
        for rank, passage in enumerate(passages.T):  # (n,)
            inside = step < self.length[passage, None]
            own = self.order[torch.where(inside, self.start[passage, None] + step, 0)]  # (n, longest)
            values = activity[own, torch.arange(n)[:, None]].masked_fill(~inside, -1)
            rows[:, rank] = own.gather(1, values.argmax(dim=1, keepdim=True))[:, 0]
        return rows.masked_fill(largest <= 0, -1)


def document(subject: Subject, text: Text, k: int) -> dict[str, Any]:
    """Return the living units with up to ``k`` contexts each as plain JSON: fewer where there are many units."""
    living = (~subject.dead).nonzero()[:, 0]
    listed = living[:_MOST_WINDOWS]
    k = min(k, max(_MOST_WINDOWS // max(len(listed), 1), 1))
    numbers: dict[str, int] = {}

    def number(piece: str) -> int:
        return numbers.setdefault(piece, len(numbers))

    units = [
        {
            "unit": unit.unit,
            "frequency": _short(unit.frequency),
            "largest": _short(unit.largest),
            "tokens": [number(name) for name in text.names(unit.tokens)],
            "shares": [_short(share) for share in unit.shares],
            "contexts": [
                {
                    "row": context.row,
                    "marked": context.window.marked,
                    "pieces": [number(piece.text) for piece in context.window.pieces],
                    "codes": [None if code is None else _short(code) for code in context.codes],
                }
                for context in unit.contexts
            ],
        }
        for unit in contexts_of(subject, text, listed, k)
    ]
    return {
        "rows": len(text.token),
        "all_units": len(subject.dead),
        "living_units": len(living),
        "contexts_per_unit": k,
        "threshold": subject.sample.threshold,
        "pieces": list(numbers),
        "units": units,
    }


def draw(subject: Subject, text: Text, units: Tensor, k: int, *, which: str) -> Figure:
    """Draw ``units (n,)``, ``which`` of all in a few words, with their top tokens and ``k`` contexts each."""
    blocks = [_paragraph(text, unit) for unit in contexts_of(subject, text, units, k)]
    title = (
        f"Test tokens that activate units most, each in another context: {which}\n"
        "on the left: the code of the marked token; background: the unit's code at each token, relative to its largest"
    )
    if any(span.level < 0 for block in blocks for line in block.lines for span in line.spans):
        title += "\norange is positive, blue negative"
    return paragraphs(blocks, title, empty="all units are dead")


def _paragraph(text: Text, unit: UnitContexts) -> Paragraph:
    if not unit.contexts:
        return Paragraph(f"unit {unit.unit}: dead", [])
    names = text.names(unit.tokens)
    pairs = zip(names, unit.shares, strict=True)
    tokens = ", ".join(f"{name} {share:.0%}" for name, share in pairs if share >= LEAST_SHOWN)
    heading = f"unit {unit.unit}: active on {100 * unit.frequency:.2g}% of the tokens; shares of its activity: {tokens}"
    return Paragraph(heading, [centred(*_line(context, abs(unit.largest))) for context in unit.contexts])


def draw_values(text: Text, rows: Tensor, values: Tensor, *, largest: float, title: str) -> Figure:
    """Draw the text around ``rows (n,)``: a token is darker for a larger one of the ``values (B,)`` >= 0."""
    of_rows = values.numpy()
    lines = [centred(*_line(_context(text, row, of_rows), largest)) for row in rows.tolist()]
    return paragraphs([Paragraph("", lines)], title)


def _line(context: Context, largest: float) -> tuple[str, Sequence[Span], int]:
    pieces, marked = context.window
    spans = [
        Span(piece.text, min((code or 0) / largest, 1.0), is_marked=place == marked)
        for place, (piece, code) in enumerate(zip(pieces, context.codes, strict=True))
    ]
    return f"{context.codes[marked]:.3g}", spans, marked


def _short(value: float) -> float:
    """Three digits of a number, which is all that a page shows."""
    return float(f"{value:.3g}") or 0
