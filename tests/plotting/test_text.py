"""Lines of text: no text overlaps another or leaves the figure, whatever its characters are."""

from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from sparse_ae.plotting.style import to_png, to_svg
from sparse_ae.plotting.text import Line, Paragraph, Span, centred, paragraphs

HOSTILE = "</script> $\\frac{1}$ {{ x }} $ 日本 😀 \u0e01\u0e33 \u0301 שלום \uff37\uff29 ∑"


def _paragraphs() -> list[Paragraph]:
    spans = [Span(f" {word}", level) for word, level in zip(HOSTILE.split(), (0, 0.1, -0.5, 1) * 4, strict=False)]
    lines = [centred(f"{10**i:.3g}", spans * (i + 1), 3 * i) for i in range(6)]
    lines += [centred("-1", [Span("x" * 300, 1.0), Span(" y" * 200, -1.0, is_marked=True), Span("z")], 1)]
    lines += [Line("a long label of a line", [Span("W" * 500)]), Line("", [])]
    return [Paragraph(f"{HOSTILE} " * 10, lines), Paragraph("empty", []), Paragraph("", lines[:2])]


def _boxes(figure: Figure) -> list[Text]:
    FigureCanvasAgg(figure).draw()
    return [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]


def test_no_text_overlaps_another_or_leaves_the_figure() -> None:
    figure = paragraphs(_paragraphs(), "A title\nof two lines")
    figure.set_dpi(110)  # as figures are written
    texts = _boxes(figure)
    boxes = [text.get_window_extent() for text in texts]
    width, height = figure.get_size_inches() * 110
    assert min(min(box.x0, box.y0) for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= width
    assert max(box.y1 for box in boxes) <= height
    rows: dict[float, list[tuple[float, float]]] = {}
    for text, box in zip(texts[1:], boxes[1:], strict=True):
        rows.setdefault(text.get_position()[1], []).append((box.x0, box.x1))
    assert len(rows) == 9 + 1 + 2
    for parts in rows.values():
        assert all(first[1] <= second[0] + 1 for first, second in pairwise(sorted(parts)))
    heights = [box.height for box in boxes[1:]]
    assert max(heights) <= 12.5 / 72 * 110 + 1  # the distance of lines


def test_what_the_font_lacks_is_a_square_and_the_title_says_so() -> None:
    """Warnings are errors here: matplotlib warns of a missing character."""
    figure = paragraphs([Paragraph("日", [Line("😀", [Span("é 本 $x$ ע")])])], "title")
    texts = [text.get_text() for text in _boxes(figure)]
    assert texts == ["title\n□: a character that this font lacks", "□", "□", "é", "□", "$x$", "□"]
    assert to_png(figure).startswith(b"\x89PNG")
    assert "$x$" in to_svg(figure).decode()
    plain = paragraphs([Paragraph("a", [Line("b", [Span("c")])])], "title")
    assert _boxes(plain)[0].get_text() == "title"


@pytest.mark.parametrize("marked", [0, 1, 2, 30, 59])
def test_marked_spans_stand_below_each_other(marked: int) -> None:
    spans = [Span(f" w{i}") for i in range(60)]
    line = centred("", spans, marked)
    text = "".join(span.text for span in line.spans)
    place = line.indent + text.index(f" w{marked}")
    assert place == 58
    assert len(text) <= 58 - line.indent + 62
    whole = "".join(span.text for span in spans)
    assert text.strip("…") in whole
    assert text.strip("…").startswith(" w0") == (marked < 15)


def test_nothing_to_show_is_said() -> None:
    figure = paragraphs([], "title", empty="all units are dead")
    assert [text.get_text() for text in _boxes(figure)] == ["title", "all units are dead"]
