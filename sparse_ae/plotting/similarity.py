"""How much atoms resemble one another."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sparse_ae.plotting.style import BLUE, GREY, Array, finish

_BINS = 50
_MAP_INCHES, _PICTURE_INCHES = 8.0, 0.42


def cosine_heatmap(cosines: Array, cluster: npt.NDArray[np.integer], *, title: str) -> Figure:
    """``(n, n)`` in the order given, which has each ``cluster (n,)`` side by side; those of two atoms or more are
    outlined.

    Colours end where all but 0.5 % of the cosines between different atoms do, and are symmetric around 0 if some are
    negative.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    size = len(cosines)
    others = cosines[~np.eye(size, dtype=bool)] if size > 1 else cosines
    signed = bool((others < 0).any())
    low, high = np.percentile(np.abs(others) if signed else others, (0, 99.5))
    high = max(high, low + 0.1)
    drawn = axes.imshow(
        cosines,
        cmap="RdBu_r" if signed else "viridis",
        clim=(-high if signed else low, high),
        extent=(0, size, size, 0),
    )
    starts = np.flatnonzero(np.diff(cluster, prepend=-1, append=-1))
    for start, end in pairwise(starts.tolist()):
        if end - start > 1:
            side = end - start
            axes.add_patch(Rectangle((start, start), side, side, fill=False, edgecolor="black", linewidth=0.8))
    axes.set(xlabel="atoms, similar ones side by side", ylabel="atoms")
    figure.colorbar(drawn, ax=axes, label="cosine", shrink=0.8, extend="both" if signed else "max")
    figure.suptitle(title)
    return figure


def atom_map(plane: Array, pictures: Array, shares: Array, *, title: str) -> Figure:
    """Atoms at points ``(n, 2)``, as pictures ``(n, H, W)``, each on its own scale, where there is room for one, else
    as dots. ``shares (2,)`` of the variance lie along the axes.
    """
    figure = Figure(figsize=(_MAP_INCHES + 0.8, _MAP_INCHES + 1.2), layout="constrained")
    axes = figure.subplots()
    signed = bool((pictures < 0).any())
    middle = (plane.max(axis=0) + plane.min(axis=0)) / 2
    half = max(float(np.abs(plane - middle).max()), 1e-6) * 1.08
    side = 2 * half * _PICTURE_INCHES / _MAP_INCHES
    shown = _with_room(plane, side)
    for i in shown:
        (x, y), picture = plane[i], pictures[i]
        high = max(float(np.abs(picture).max()), 1e-12)
        extent = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
        clim = (-high if signed else float(picture.min()), high)
        axes.imshow(picture, cmap="RdBu_r" if signed else "gray", clim=clim, extent=extent, zorder=2)
        axes.add_patch(
            Rectangle((x - side / 2, y - side / 2), side, side, fill=False, edgecolor=GREY, linewidth=0.5, zorder=3)
        )
    dots = np.setdiff1d(np.arange(len(plane)), shown)
    if len(dots):
        axes.plot(*plane[dots].T, "o", color=BLUE, markersize=2.5, zorder=1, label="unit without room for its picture")
    for which, share, centre in zip("xy", shares, middle, strict=True):
        axes.set(**{f"{which}lim": (centre - half, centre + half)})
        axes.set(**{f"{which}label": f"principal component {'xy'.index(which) + 1} ({share:.0%} of the variance)"})
    finish(figure, f"{title}\nred is positive, blue negative" if signed else title, columns=2)
    return figure


def _with_room(plane: Array, side: float) -> list[int]:
    """The points, the outermost first, whose square of that side overlaps no earlier one's."""
    outer_first = np.argsort(-np.linalg.norm(plane - plane.mean(axis=0), axis=1), kind="stable")
    chosen: list[int] = []
    for i in outer_first.tolist():
        if (np.abs(plane[chosen] - plane[i]).max(axis=1) > side).all():
            chosen.append(i)
    return chosen


def nearest_cosine_histogram(nearest: Array, random: Array, *, above: float, title: str) -> Figure:
    """Each atom's largest |cosine| to another, ``(n,)``, beside those of as many random directions; with fewer than two
    atoms there is none.
    """
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    axes = figure.subplots()
    if len(nearest):
        edges = np.linspace(0, 1, _BINS + 1)
        for values, fill, colour, name in ((nearest, True, BLUE, "atoms"), (random, False, GREY, "random directions")):
            counts, _ = np.histogram(values, edges)
            axes.stairs(counts, edges, fill=fill, color=colour, label=f"{name}, mean {values.mean():.3f}")
        axes.axvline(above, color="black", linestyle="--", linewidth=1, label=f"duplicates: above {above:g}")
    else:
        axes.text(0.5, 0.5, "fewer than two atoms", ha="center", va="center", color=GREY)
    axes.set(xlabel="largest |cosine| to another atom", ylabel="atoms", xlim=(0, 1))
    finish(figure, title, columns=3)
    return figure
