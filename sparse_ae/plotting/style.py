"""Style of all figures: colours, logarithmic axes, legends, and conversion to PNG and SVG."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context, ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

Array = npt.NDArray[np.floating]
Colour = tuple[float, float, float]

BLUE, GREY = "#0072B2", "#666666"
# Okabe and Ito's, and two of Tol's: safe for colour-blind readers.
_COLOURS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#999933")
_MARKERS = "osD^vPXph"
LINES = ("-", "--", "-.", ":")
_MOST_CLASSES = 30
"""Number of classes that an axis has room to name."""


class Look(NamedTuple):
    """Colour, marker and line of one method, in every panel."""

    colour: str
    marker: str
    line: str


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """Map each different method to its look, in alphabetical order."""
    colours, markers = len(_COLOURS), len(_MARKERS)  # equal in number: the second round pairs them differently
    return {
        method: Look(_COLOURS[i % colours], _MARKERS[(i + i // colours) % markers], LINES[i % len(LINES)])
        for i, method in enumerate(sorted(set(methods)))
    }


def lighter(colour: str, share: float) -> Colour:
    """``colour`` mixed with a ``share`` in [0, 1] of white."""
    red, green, blue = ((1 - share) * part + share for part in to_rgb(colour))
    return red, green, blue


def log_positions(axes: Axes, which: str, values: Array) -> Array:
    """Make the axis ``which`` (x or y) logarithmic for ``values (R,) >= 0``; returns the positions to draw them at.

    A logarithmic axis has no 0: zeros stand apart at its lower end, behind a dotted line, at a tick labelled 0.
    """
    positive = values[values > 0]
    if len(positive) == 0:
        return values
    axis: Axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    low, high = float(positive.min()), float(positive.max())
    ticks = _log_ticks(low, high)
    zero = 10 ** np.floor(np.log10(low) - 0.5)
    axis.set_minor_locator(ticker.NullLocator())
    if (values == 0).any():
        ticks = ticks or ([low, high] if high > 1.2 * low else [low])
        axis.set_major_locator(ticker.FixedLocator([zero, *ticks]))
        axis.set_major_formatter(ticker.FixedFormatter(["0", *_log_labels(ticks)]))
        line = axes.axvline if which == "x" else axes.axhline
        line(float(np.sqrt(zero * low)), color=GREY, linestyle=":", linewidth=1)
    elif sum(low <= tick <= high for tick in ticks) > 1:  # those beyond the values may be off the axis
        axis.set_major_locator(ticker.FixedLocator(ticks))
        axis.set_major_formatter(ticker.FixedFormatter(_log_labels(ticks)))
    else:  # less than a few tenths of a decade
        axis.set_major_locator(ticker.MaxNLocator(4))
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    return np.where(values == 0, zero, values)


def _log_ticks(low: float, high: float) -> list[float]:
    """Ticks at decades, at most 7 of them, or at 1, 2 and 5 of each decade where there are few."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    digits = (1,) if np.log10(high / low) > 2 else (1, 2, 5)
    step = -(-(last - first) // 7) if len(digits) == 1 else 1
    ticks = [digit * 10.0**power for power in range(first, last + 1, max(step, 1)) for digit in digits]
    return [tick for tick in ticks if low / 1.2 <= tick <= high * 1.2]


def _log_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of ticks: plain numbers of 4 digits, or powers of ten with 3 digits if a plain one would be long."""
    if all(0.001 <= tick <= 1000 for tick in ticks):
        return [f"{tick:.4g}" for tick in ticks]
    parts = [f"{tick:.2e}".split("e") for tick in ticks]
    digits = ["" if float(digit) == 1 else rf"{float(digit):g}{{\cdot}}" for digit, _ in parts]
    return [f"${digit}10^{{{int(power)}}}$" for digit, (_, power) in zip(digits, parts, strict=True)]


def class_ticks(classes: int) -> range:
    """Places of the classes that an axis names: all of them, or evenly spread ones where there are many."""
    return range(0, classes, -(-classes // _MOST_CLASSES) or 1)


def to_png(figure: Figure, dpi: int = 110, *, palette: bool = False) -> bytes:
    """Bytes of the figure as a PNG file; ``palette`` reduces lines to 256 colours and a fifth of the size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if not palette:
        return buffer.getvalue()
    few = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(buffer := io.BytesIO(), format="png", optimize=True)
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """Bytes of the figure as an SVG file, with text as text; equal for equal figures."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparse_ae"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def finish(figure: Figure, title: str, *, columns: int) -> None:
    """Put the title above and one legend for all panels below; open the frames."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    figure.suptitle(title)
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=9,
        )


def note(axes: Axes, text: str) -> None:
    """Write ``text`` into the middle of a panel, such as the reason why it is empty."""
    box = {"facecolor": "white", "edgecolor": "none"}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, bbox=box)
