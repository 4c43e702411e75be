"""Similarity of atoms, by the |cosine| between them: an atom's sign is a matter of its code."""

from itertools import pairwise
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pydantic import Field
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from torch import Tensor

from sparse_ae.analysis import contexts
from sparse_ae.analysis.base import Embedding, Label, Result, Subject
from sparse_ae.analysis.statistics import evenly_spread
from sparse_ae.functional import blocks, blockwise
from sparse_ae.plotting.pictures import View, caption, own_scale
from sparse_ae.plotting.style import BLUE, GREY, Array, finish, note

Indices = npt.NDArray[np.intp]
Cosine = Annotated[float, Field(gt=0, lt=1)]

_BINS = 50
_MOST = 4096
"""Largest number of units that are compared each with each at once, and drawn."""
_MAP_INCHES, _PICTURE_INCHES = 8.0, 0.42


class Numbers(NamedTuple):
    """Similarity over all living units; cosines are None with fewer than two atoms."""

    units: int
    """Number of units."""
    dead_units: int
    """Number of units whose code is never != 0."""
    zero_atoms: int
    """Number of living units whose atom has norm 0."""
    coherence: Annotated[float | None, Label("coherence (largest |cosine| of two atoms)")]
    """Largest |cosine| between two atoms."""
    nearest_cosine: Annotated[float | None, Label("mean |cosine| to the nearest atom")]
    """Largest |cosine| of an atom to another, mean over atoms."""
    random_nearest_cosine: float | None
    """Value of ``nearest_cosine`` for as many atoms of random (Gaussian) direction."""
    duplicate_units: Annotated[int, Label("units with a duplicate")]
    """Number of units in groups that |cosines| above ``duplicate_cosine`` join."""
    duplicate_groups: int
    """Number of such groups."""
    duplicate_cosine: float
    """The option."""
    clusters: Annotated[int, Label("clusters of similar atoms")]
    """Number of clusters of two atoms or more; see ``clusters``."""
    clustered_units: int
    """Number of units in clusters of two atoms or more."""
    largest_cluster: int
    """Number of units in the largest cluster of two atoms or more."""
    cluster_cosine: float
    """The option."""
    compared_units: int
    """Number of units that clusters are of: living ones, at most 4,096."""


def nearest_cosines(directions: Tensor, most: int | None = None) -> Array:
    """max_j!=i |cos_ij| of each of the directions ``(n, D)`` of norm 1, or of the first ``most``, ``(n,)``.

    Empty for a single direction.
    """
    n = len(directions)
    if n < 2:
        return np.empty(0, dtype=np.float32)

    def nearest(part: slice) -> Tensor:
        others = _cosines(directions[part], directions).abs_()
        others.diagonal(part.start).zero_()
        return others.amax(dim=1)

    return blockwise(min(n, most or n), n, nearest).numpy()


def duplicate_groups(directions: Tensor, above: float) -> list[int]:
    """Sizes, largest first, of the groups of two directions or more that |cosines| above ``above`` join.

    Groups of the ``(n, D)`` are connected components: two may be joined by way of others.
    """
    n = len(directions)
    group = first = np.arange(n)
    for part in blocks(n, n):
        row, column = (_cosines(directions[part], directions).abs_() > above).nonzero().T.numpy()
        joined = np.append(row + part.start, np.arange(n)), np.append(column, first[group])
        graph = sparse.coo_array((np.ones(len(joined[0]), dtype=bool), joined), shape=(n, n))
        _, group = connected_components(graph, directed=False)
        first = np.unique(group, return_index=True)[1]
    sizes = np.bincount(group)
    return sorted(sizes[sizes > 1].tolist(), reverse=True)


def cluster_order(cosines: Array) -> Indices:
    """Order of the atoms ``(N,)`` in the tree of average linkage, with similar atoms side by side.

    Again and again the two clusters with the smallest mean distance 1 - |cos| between their atoms are joined.
    """
    if len(cosines) < 2:
        return np.arange(len(cosines))
    order: Indices = leaves_list(_tree(cosines))
    return order


def clusters(cosines: Array, cosine: float) -> Indices:
    """Cluster of each atom ``(N,)``: average linkage as long as the mean |cos| of the two is at least ``cosine``.

    Numbered from 0 by size, the largest first, and among equals the one with the first atom. An atom that nothing
    joined is a cluster too.
    """
    if len(cosines) < 2:
        return np.zeros(len(cosines), dtype=np.intp)
    found = fcluster(_tree(cosines), 1 - cosine, criterion="distance")
    _, first, label, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    number: Indices = np.lexsort((first, -sizes)).argsort()[label]
    return number


def _tree(cosines: Array) -> Array:
    distances = squareform(1 - np.abs(cosines), checks=False).clip(min=0)
    tree: Array = linkage(distances, method="average")
    return tree


def principal_plane(points: Array) -> tuple[Array, Array]:
    """Points ``(n, D)`` on the two directions of largest variance, ``(n, 2)``, and its share along each, ``(2,)``."""
    u, spread, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    u *= np.where(u.sum(axis=0) < 0, -1, 1)  # fixes the sign
    missing = max(0, 2 - len(spread))
    plane = np.pad((u * spread)[:, :2], ((0, 0), (0, missing)))
    variance = np.pad(spread**2, (0, missing))
    return plane, variance[:2] / max(float(variance.sum()), 1e-12)


def analyse(subject: Subject, *, duplicate_cosine: Cosine = 0.95, cluster_cosine: Cosine = 0.5) -> Result:
    """Atoms compared two by two; ``Subject.directions`` where the decoder is not linear.

    Dead units, whose atoms mean nothing, and atoms of norm 0, which have no direction, are left out. Of more than 4,096
    others, 4,096 that are evenly spread are clustered and shown. See ``Numbers`` for the results.

    Arrays: ``unit (n,)``, the units compared, and ``nearest_cosine (n,)``; ``shown (m,)``, the units clustered, their
    ``cosine (m, m)`` and ``plane (m, 2)``; ``cluster_order (m,)``, these with similar ones side by side; ``cluster
    (N,)``, of all units. The largest cluster is 0, a unit alone has one of its own, and units left out have -1.
    """
    dead, zero = subject.dead, ~subject.directions.any(dim=1)
    kept = (~dead & ~zero).nonzero().flatten()
    directions = F.normalize(subject.directions[kept], dim=1)
    nearest = nearest_cosines(directions)
    random = nearest_cosines(_random_directions(*directions.shape), most=_MOST)
    alike = torch.from_numpy(nearest > duplicate_cosine)
    groups = duplicate_groups(directions[: len(alike)][alike], duplicate_cosine)
    chosen = evenly_spread(len(kept), _MOST)
    shown, directions = kept[chosen], directions[chosen]
    cosines = _cosines(directions, directions).numpy()
    cluster = clusters(cosines, cluster_cosine)
    sizes = np.bincount(cluster)
    shared = sizes[sizes > 1]
    numbers = Numbers(
        units=len(dead),
        dead_units=int(dead.sum()),
        zero_atoms=int((zero & ~dead).sum()),
        coherence=float(nearest.max()) if len(nearest) else None,
        nearest_cosine=float(nearest.mean()) if len(nearest) else None,
        random_nearest_cosine=float(random.mean()) if len(random) else None,
        duplicate_units=sum(groups),
        duplicate_groups=len(groups),
        duplicate_cosine=duplicate_cosine,
        clusters=len(shared),
        clustered_units=int(shared.sum()),
        largest_cluster=int(shared.max(initial=0)),
        cluster_cosine=cluster_cosine,
        compared_units=len(shown),
    )
    of_all = np.full(len(dead), -1)
    of_all[shown.numpy()] = cluster
    arrays = {"unit": kept.numpy(), "nearest_cosine": nearest, "cluster": of_all}
    arrays |= {"shown": shown.numpy(), "cosine": cosines}
    if len(kept) == 0:
        return Result.of(numbers, {}, arrays)
    order, (plane, shares) = cluster_order(cosines), principal_plane(directions.double().numpy())
    pictures = subject.images(subject.directions[shown]) if subject.has_pictures else None
    living = f"{len(kept)} living units" if dead.any() else f"{len(kept)} units"
    drawn = living if len(shown) == len(kept) else f"{len(shown)} of {living}"
    figures = {
        "cosines": _heatmap(
            cosines[np.ix_(order, order)],
            cluster[order],
            title=f"Cosines between the atoms of {drawn}, ordered by average-linkage clustering\n"
            f"{len(shared)} clusters (mean |cosine| {cluster_cosine:g} and more) of {shared.sum()} units: outlined",
        ),
        "map": _map(
            plane, pictures, shares, title=f"Atoms of {drawn}, normalised, on their principal plane", view=subject.view
        ),
        "nearest": _histogram(
            nearest, random, above=duplicate_cosine, title=f"{sum(groups)} of {living} have a duplicate"
        ),
    }
    embedding = Embedding(directions.numpy(), pictures, _labels(subject, shown, cluster))
    return Result.of(numbers, figures, arrays | {"cluster_order": shown.numpy()[order], "plane": plane}, embedding)


def _labels(subject: Subject, shown: Tensor, cluster: Indices) -> list[str]:
    """A label of each of the living units ``shown (n,)``, with its top token if there is text."""
    sizes, lifetime, text = np.bincount(cluster), subject.lifetime[shown], subject.sample.text
    labels = [
        f"unit {unit}, {f'cluster {c}' if sizes[c] > 1 else 'no cluster'}, lifetime {share:.3f}"
        for unit, c, share in zip(shown.tolist(), cluster.tolist(), lifetime.tolist(), strict=True)
    ]
    if text is None:
        return labels
    tokens = contexts.names_of(subject, text, shown)
    return [f"{label}, token {token}" for label, token in zip(labels, tokens, strict=True)]


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of directions ``(n, D)`` and ``(n', D)`` of norm 1, ``(n, n')``."""
    return (first @ second.T).clamp_(-1, 1)


def _random_directions(n: int, dimensions: int) -> Tensor:
    return F.normalize(torch.randn(n, dimensions, generator=torch.Generator().manual_seed(0)), dim=1)


def _heatmap(cosines: Array, cluster: npt.NDArray[np.integer], *, title: str) -> Figure:
    """Cosines ``(n, n)``, with each ``cluster (n,)`` of two atoms or more outlined, which stand side by side.

    Colours end where all but 0.5 % of the cosines between different atoms do. They are symmetric around 0 if some
    cosines are negative.
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


def _map(plane: Array, pictures: Array | None, shares: Array, *, title: str, view: View) -> Figure:
    """Atoms at points ``(n, 2)``, as pictures ``(n, H, W)`` or ``(n, H, W, 3)`` where there is room, else as dots.

    Each picture has its own scale. ``shares (2,)`` of the variance lie along the axes.
    """
    figure = Figure(figsize=(_MAP_INCHES + 0.8, _MAP_INCHES + 1.2), layout="constrained")
    axes = figure.subplots()
    middle = (plane.max(axis=0) + plane.min(axis=0)) / 2
    half = max(float(np.abs(plane - middle).max()), 1e-6) * 1.08
    if pictures is None:
        axes.plot(*plane.T, "o", color=BLUE, markersize=2.5)
    else:
        _draw_pictures(axes, plane, pictures, 2 * half * _PICTURE_INCHES / _MAP_INCHES, view)
        title = caption(title, view, signed=bool((pictures < 0).any()))
    for which, share, centre in zip("xy", shares, middle, strict=True):
        axes.set(**{f"{which}lim": (centre - half, centre + half)})
        axes.set(**{f"{which}label": f"principal component {'xy'.index(which) + 1} ({share:.0%} of the variance)"})
    finish(figure, title, columns=2)
    return figure


def _draw_pictures(axes: Axes, plane: Array, pictures: Array, side: float, view: View) -> None:
    """Draw pictures into squares of that side where there is room, and dots elsewhere."""
    signed = bool((pictures < 0).any())
    height, width = (side * size / max(pictures.shape[1:3]) for size in pictures.shape[1:3])
    shown = _with_room(plane, side)
    for i in shown:
        left, bottom = plane[i] - (width / 2, height / 2)
        colours, low = ("RdBu_r", -1) if signed else (view.own_colours, 0)
        extent = (left, left + width, bottom, bottom + height)
        axes.imshow(own_scale(pictures[i], signed=signed), cmap=colours, clim=(low, 1), extent=extent, zorder=2)
        axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=GREY, linewidth=0.5, zorder=3))
    dots = np.setdiff1d(np.arange(len(plane)), shown)
    if len(dots):
        axes.plot(*plane[dots].T, "o", color=BLUE, markersize=2.5, zorder=1, label="unit without room for its picture")


def _with_room(plane: Array, side: float) -> list[int]:
    """Points, the outermost first, whose square of that side overlaps no earlier one's."""
    outer_first = np.argsort(-np.linalg.norm(plane - plane.mean(axis=0), axis=1), kind="stable")
    chosen: list[int] = []
    for i in outer_first.tolist():
        if (np.abs(plane[chosen] - plane[i]).max(axis=1) > side).all():
            chosen.append(i)
    return chosen


def _histogram(nearest: Array, random: Array, *, above: float, title: str) -> Figure:
    """Each atom's largest |cosine| to another, ``(n,)``, beside those of as many random directions."""
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    axes = figure.subplots()
    if len(nearest):
        edges = np.linspace(0, 1, _BINS + 1)
        for values, fill, colour, name in ((nearest, True, BLUE, "atoms"), (random, False, GREY, "random directions")):
            counts, _ = np.histogram(values, edges)
            counts = counts * (len(nearest) / len(values))  # where not all random directions were compared
            axes.stairs(counts, edges, fill=fill, color=colour, label=f"{name}, mean {values.mean():.3f}")
        axes.axvline(above, color="black", linestyle="--", linewidth=1, label=f"duplicates: above {above:g}")
    else:
        note(axes, "fewer than two atoms")
    axes.set(xlabel="largest |cosine| to another atom", ylabel="atoms", xlim=(0, 1))
    finish(figure, title, columns=3)
    return figure
