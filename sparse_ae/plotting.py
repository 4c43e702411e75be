"""Arrays to matplotlib figures, in one style; nothing else."""

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Array = npt.NDArray[np.floating]

_BLUE, _GREY = "#0072B2", "#666666"  # from the Okabe-Ito palette, safe for colour-blind readers


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def sparsity_panels(
    population: Array, lifetime: Array, code_counts: Array, code_edges: Array, *, threshold: float, title: str
) -> Figure:
    """Three panels: population sparsity ``(B,)`` over samples, lifetime sparsity ``(N,)`` over units, and the
    distribution of all codes as histogram ``code_counts (K,)`` between ``code_edges (K + 1,)``.
    """
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    active = f"active (code > {threshold:g})"
    _share_histogram(left, population, of=len(lifetime), xlabel=f"share of units {active}", ylabel="samples")
    left.set_title("Population sparsity, per sample")
    _share_histogram(middle, lifetime, of=len(population), xlabel=f"share of samples {active}", ylabel="units")
    middle.set_title("Lifetime sparsity, per unit")
    right.stairs(code_counts, code_edges, fill=True, color=_BLUE)
    right.set_yscale("log")
    right.axvline(threshold, color=_GREY, linestyle="--", linewidth=1)
    right.annotate(
        f"threshold {threshold:g}",
        (threshold, 0.97),
        xycoords=right.get_xaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        color=_GREY,
        va="top",
    )
    right.set(title="Codes, all units and samples", xlabel="code", ylabel="number of codes (log)")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def _share_histogram(axes: Axes, shares: Array, *, of: int, xlabel: str, ylabel: str) -> None:
    """Shares are counts out of ``of``: bins hold whole numbers of counts, or aliasing would tear gaps."""
    most = max(1, round(float(shares.max(initial=0)) * of))
    counts_per_bin = math.ceil((most + 1) / 50)
    edges = (np.arange(0, most + 1 + counts_per_bin, counts_per_bin) - 0.5) / of
    axes.hist(shares, bins=edges.tolist(), color=_BLUE)
    mean = float(shares.mean()) if len(shares) else math.nan
    axes.axvline(mean, color=_GREY, linestyle="--", linewidth=1, label=f"mean {mean:.3f}")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend(frameon=False)


def feature_grid(images: Array, labels: Sequence[str], *, title: str) -> Figure:
    """A square grid of images ``(n, H, W)``, each on its own scale and with a label above.

    Grey where no image has negative values; else a diverging map, symmetric around 0.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.05 * columns, 1.2 * rows + 0.6), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    signed = bool((images < 0).any())
    for axes in grid:
        axes.set_axis_off()
    for axes, image, label in zip(grid, images, labels, strict=False):
        extreme = max(float(np.abs(image).max()), 1e-12)
        low, high = (-extreme, extreme) if signed else (float(image.min()), float(image.max()))
        axes.imshow(image, cmap="RdBu_r" if signed else "gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(label, fontsize=7, pad=2, color=_GREY)
    figure.suptitle(f"{title}\nred is positive, blue negative" if signed else title)
    return figure
