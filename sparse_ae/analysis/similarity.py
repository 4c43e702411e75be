"""How much atoms resemble one another, by the |cosine| between them: an atom's sign is a matter of its code."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from torch import Tensor

from sparse_ae.analysis.base import Embedding, Result, Subject
from sparse_ae.functional import lifetime_sparsity
from sparse_ae.plotting import atom_map, cosine_heatmap, nearest_cosine_histogram

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]
Cosine = Annotated[float, Field(gt=0, lt=1)]


def nearest_cosines(cosines: Array) -> Array:
    """max_j!=i |cos_ij| per atom, ``(N,)`` from ``(N, N)``; empty for a single atom."""
    if len(cosines) < 2:
        return np.empty(0, dtype=cosines.dtype)
    others = np.abs(cosines)
    np.fill_diagonal(others, 0)
    nearest: Array = others.max(axis=1)
    return nearest


def duplicate_groups(cosines: Array, above: float) -> list[int]:
    """The sizes, largest first, of the groups of two atoms or more that |cosines| ``(N, N)`` above ``above`` join, also
    by way of other atoms: connected components.
    """
    _, group = connected_components(np.abs(cosines) > above, directed=False)
    sizes = np.bincount(group)
    return sorted(sizes[sizes > 1].tolist(), reverse=True)


def cluster_order(cosines: Array) -> Indices:
    """The atoms ``(N,)`` as they come together when the two clusters with the smallest mean distance 1 - |cos| between
    their atoms are joined again and again: average linkage.
    """
    if len(cosines) < 2:
        return np.arange(len(cosines))
    order: Indices = leaves_list(_tree(cosines))
    return order


def clusters(cosines: Array, cosine: float) -> Indices:
    """Each atom's cluster ``(N,)``: the same joining, for as long as the mean |cos| between the two is at least
    ``cosine``. Numbered from 0 by size, the largest first, and among equals the one with the first atom; an atom that
    nothing joined is a cluster too.
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
    u *= np.where(u.sum(axis=0) < 0, -1, 1)  # of the two signs possible, always the same
    missing = max(0, 2 - len(spread))
    plane = np.pad((u * spread)[:, :2], ((0, 0), (0, missing)))
    variance = np.pad(spread**2, (0, missing))
    return plane, variance[:2] / max(float(variance.sum()), 1e-12)


def analyse(subject: Subject, *, duplicate_cosine: Cosine, cluster_cosine: Cosine) -> Result:
    """Atoms compared two by two; where the decoder is not linear, what units add (``Subject.directions``). A dead
    unit's atom is whatever it was left at, and one of norm 0 has no direction: these are left out.

    Numbers: ``units``, ``dead_units`` (code never != 0), ``zero_atoms`` (of norm 0, of units not dead); the
    ``coherence``, the largest |cosine| between two atoms; ``nearest_cosine``, the mean over atoms of the largest
    |cosine| to another, and ``random_nearest_cosine``, the same for as many atoms of random (Gaussian) direction;
    ``duplicate_units``, units in groups that |cosines| above ``duplicate_cosine`` join, and ``duplicate_groups``, how
    many groups these are. Cosines are None with fewer than two atoms. ``clusters`` of two atoms or more that average
    linkage joins while the mean |cosine| between two clusters is at least ``cluster_cosine``, ``clustered_units``, how
    many units are in them, and ``largest_cluster``, in the largest.
    Arrays: ``unit (n,)``, which are compared, their ``cosine (n, n)``, ``nearest_cosine (n,)`` and ``plane (n, 2)``;
    ``cluster_order (n,)``, units with similar ones side by side; ``cluster (N,)``, of all units, the largest cluster
    being 0, a unit alone one of its own, and -1 what is left out.
    """
    dead, zero = subject.dead, ~subject.directions.any(dim=1)
    kept = (~dead & ~zero).nonzero().flatten()
    directions = F.normalize(subject.directions[kept], dim=1)
    cosines = _cosines(directions)
    nearest = nearest_cosines(cosines)
    random = nearest_cosines(_cosines(_random_directions(*directions.shape)))
    groups = duplicate_groups(cosines, duplicate_cosine)
    cluster = clusters(cosines, cluster_cosine)
    sizes = np.bincount(cluster)
    shared = sizes[sizes > 1]
    numbers = {
        "units": len(dead),
        "dead_units": int(dead.sum()),
        "zero_atoms": int((zero & ~dead).sum()),
        "coherence": float(nearest.max()) if len(nearest) else None,
        "nearest_cosine": float(nearest.mean()) if len(nearest) else None,
        "random_nearest_cosine": float(random.mean()) if len(random) else None,
        "duplicate_units": sum(groups),
        "duplicate_groups": len(groups),
        "duplicate_cosine": duplicate_cosine,
        "clusters": len(shared),
        "clustered_units": int(shared.sum()),
        "largest_cluster": int(shared.max(initial=0)),
        "cluster_cosine": cluster_cosine,
    }
    of_all = np.full(len(dead), -1)
    of_all[kept.numpy()] = cluster
    arrays = {"unit": kept.numpy(), "cosine": cosines, "nearest_cosine": nearest, "cluster": of_all}
    if len(kept) == 0:
        return Result(numbers, {}, arrays)
    order, (plane, shares) = cluster_order(cosines), principal_plane(directions.double().numpy())
    pictures = subject.images(subject.directions[kept])
    living = f"{len(kept)} living units" if dead.any() else f"{len(kept)} units"
    lifetime = lifetime_sparsity(subject.z, subject.sample.threshold)[kept]
    figures = {
        "cosines": cosine_heatmap(
            cosines[np.ix_(order, order)],
            cluster[order],
            title=f"Cosines between the atoms of {living}, ordered by average-linkage clustering\n"
            f"{len(shared)} clusters (mean |cosine| {cluster_cosine:g} and more) of {shared.sum()} units: outlined",
        ),
        "map": atom_map(plane, pictures, shares, title=f"Atoms of {living}, normalised, on their principal plane"),
        "nearest": nearest_cosine_histogram(
            nearest,
            random,
            above=duplicate_cosine,
            title=f"{sum(groups)} of {living} have a duplicate",
        ),
    }
    labels = [
        f"unit {unit}, {f'cluster {c}' if sizes[c] > 1 else 'no cluster'}, lifetime {share:.3f}"
        for unit, c, share in zip(kept.tolist(), cluster.tolist(), lifetime.tolist(), strict=True)
    ]
    embedding = Embedding(directions.numpy(), pictures, labels)
    return Result(numbers, figures, arrays | {"cluster_order": kept.numpy()[order], "plane": plane}, embedding)


def _cosines(directions: Tensor) -> Array:
    cosines: Array = (directions @ directions.T).clamp(-1, 1).numpy()
    return cosines


def _random_directions(n: int, dimensions: int) -> Tensor:
    return F.normalize(torch.randn(n, dimensions, generator=torch.Generator().manual_seed(0)), dim=1)
