"""Lines of text with coloured backgrounds as one figure, in a monospaced font, so that every place is known."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from sparse_ae.plotting.style import BLUE, GREY, Colour, lighter, note

_ORANGE = "#D55E00"
_FONT = "DejaVu Sans Mono"  # which matplotlib brings
_ADVANCE = 1233 / 2048
"""Width of each of its characters, in ems."""
_POINTS, _LINE_POINTS = 8, 12.5
"""Size of the font, and distance of lines."""
_LABEL, _LEFT, _RIGHT = 9, 58, 62
"""Columns for the label of a line, for the text before the marked piece, and for that piece and the text after it."""
COLUMNS = _LABEL + _LEFT + _RIGHT
"""Columns of a figure."""
_MARGIN = 0.15
"""Inches around the text."""
_TITLE_POINTS = 11
_PALEST = 0.35
"""Share of white in the darkest background, on which black text can be read."""
_MISSING = "\N{WHITE SQUARE}"
_CUT = "…"


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    level: float = 0.0
    """Background, from -1, blue, over 0, none, to 1, orange."""
    is_marked: bool = False
    """True for bold and underlined text."""


class Line(NamedTuple):
    """A line of text behind a label."""

    label: str
    spans: Sequence[Span]
    indent: int = 0
    """Number of empty columns before the text."""


class Paragraph(NamedTuple):
    """A heading and its lines."""

    heading: str
    lines: Sequence[Line]


def centred(label: str, spans: Sequence[Span], marked: int) -> Line:
    """Return a line in which the marked span begins in the same column as in all others; its ends are cut to fit.

    >>> line = centred("", [Span("a" * 100), Span("b"), Span("c" * 100)], marked=1)
    >>> [len(span.text) for span in line.spans], line.indent
    ([58, 1, 61], 0)
    """
    before, room = [], _LEFT
    for span in reversed(spans[:marked]):
        if len(span.text) > room:
            before += [span._replace(text=_CUT + span.text[len(span.text) - room + 1 :])] if room else []
            room = 0
            break
        before.append(span)
        room -= len(span.text)
    return Line(label, [*before[::-1], *_cut(spans[marked:], _RIGHT)], room)


def _cut(spans: Sequence[Span], room: int) -> list[Span]:
    """The first ``room`` columns of ``spans``."""
    kept: list[Span] = []
    for span in spans:
        if len(span.text) > room:
            return kept + ([span._replace(text=span.text[: room - 1] + _CUT)] if room else [])
        kept.append(span)
        room -= len(span.text)
    return kept


def paragraphs(blocks: Sequence[Paragraph], title: str, *, empty: str = "nothing to show") -> Figure:
    """Figure of paragraphs, one below the other; lines that are too long are cut.

    Characters that the font lacks are squares, which the last line of the title then explains.
    """
    blocks = [_drawable(block) for block in blocks]
    if _MISSING in str(blocks):
        title += f"\n{_MISSING}: a character that this font lacks"
    rows = sum(len(block.lines) + 2 for block in blocks) if blocks else 4
    width = COLUMNS * _ADVANCE * _POINTS / 72
    head, height = 1.5 * (title.count("\n") + 1) * _TITLE_POINTS / 72, rows * _LINE_POINTS / 72
    figure = Figure(figsize=(width + 2 * _MARGIN, head + height + 2 * _MARGIN))
    total_width, total_height = figure.get_size_inches()
    axes = figure.add_axes((_MARGIN / total_width, _MARGIN / total_height, width / total_width, height / total_height))
    axes.set(xlim=(0, COLUMNS), ylim=(rows, 0))
    axes.set_axis_off()
    place = (_MARGIN / total_width, 1 - _MARGIN / total_height)
    figure.text(*place, title, fontsize=_TITLE_POINTS, va="top", parse_math=False)
    if not blocks:
        note(axes, empty)
    row = 1
    for block in blocks:
        _write(axes, 0, row, block.heading, weight="bold")
        for i, line in enumerate(block.lines, start=row + 1):
            _write(axes, 0, i, line.label, color=GREY)
            _draw(axes, line, i)
        row += len(block.lines) + 2
    return figure


def _draw(axes: Axes, line: Line, row: int) -> None:
    grounds: list[list[tuple[float, float]]] = []
    colours: list[Colour] = []
    column = _LABEL + line.indent
    for span in line.spans:
        end = column + len(span.text)
        if span.level:
            grounds.append([(column, row - 0.45), (end, row - 0.45), (end, row + 0.45), (column, row + 0.45)])
            colours.append(lighter(_ORANGE if span.level > 0 else BLUE, 1 - (1 - _PALEST) * abs(span.level)))
        if span.is_marked:
            axes.add_collection(LineCollection([[(column, row + 0.4), (end, row + 0.4)]], colors="black", lw=0.8))
        _write(axes, column, row, span.text, weight="bold" if span.is_marked else "normal")
        column = end
    axes.add_collection(PolyCollection(grounds, facecolors=colours, zorder=0))


def _write(axes: Axes, column: int, row: int, text: str, **style: Any) -> None:
    """Write words one by one: the advances of a renderer, which are rounded, would add up along a line."""
    start = 0
    for word in text.split(" "):
        if word:
            axes.text(
                column + start,
                row,
                word,
                family=_FONT,
                fontsize=_POINTS,
                va="center_baseline",
                parse_math=False,
                **style,
            )
        start += len(word) + 1


def _drawable(block: Paragraph) -> Paragraph:
    lines = [
        Line(
            _known(line.label)[: _LABEL - 1],
            _cut([span._replace(text=_known(span.text)) for span in line.spans], COLUMNS - _LABEL - line.indent),
            line.indent,
        )
        for line in block.lines
    ]
    heading = _known(block.heading)
    return Paragraph(heading if len(heading) <= COLUMNS else heading[: COLUMNS - 1] + _CUT, lines)


def _known(text: str) -> str:
    """``text`` with a square for each character that the font lacks."""
    return "".join(character if ord(character) in _characters() else _MISSING for character in text)


@cache
def _characters() -> frozenset[int]:
    """Characters that the font has in both weights."""
    fonts = [get_font(findfont(FontProperties(family=_FONT, weight=weight))) for weight in ("normal", "bold")]
    regular, bold = (frozenset(font.get_charmap()) for font in fonts)
    return regular & bold
