"""Similarity of atoms against scikit-learn, SciPy and cases by hand."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from sparse_ae import functional
from sparse_ae.analysis import Result, similarity
from sparse_ae.plotting.style import to_png
from tests.analysis.subjects import subject_of


def _run(atoms: torch.Tensor, z: torch.Tensor | None = None, duplicate_cosine: float = 0.95) -> Result:
    z = torch.ones(3, len(atoms)) if z is None else z
    return similarity.analyse(subject_of(z, atoms), duplicate_cosine=duplicate_cosine, cluster_cosine=0.6)


def _axis(*entries: float) -> torch.Tensor:
    return torch.tensor([*entries, *[0.0] * (16 - len(entries))])


def test_numbers_by_hand() -> None:
    """Two opposite atoms, one between two axes, one of norm 0, and one unlike all others, of a dead unit."""
    atoms = torch.stack([_axis(2), _axis(-3), _axis(0, 0, 1), _axis(), _axis(0, 1, 1), _axis(0, 0, 0, 5)])
    z = torch.ones(4, 6)
    z[:, 5] = 0
    result = _run(atoms, z)
    random = result.numbers.pop("random_nearest_cosine")
    assert result.numbers == {
        "units": 6,
        "zero_atoms": 1,
        "dead_units": 1,
        "coherence": pytest.approx(1),
        "nearest_cosine": pytest.approx((1 + 1 + 0.5**0.5 + 0.5**0.5) / 4),
        "duplicate_units": 2,
        "duplicate_groups": 1,
        "duplicate_cosine": 0.95,
        "clusters": 2,
        "clustered_units": 4,
        "largest_cluster": 2,
        "cluster_cosine": 0.6,
        "compared_units": 4,
    }
    assert 0.2 < random < 0.8
    assert result.arrays["unit"].tolist() == [0, 1, 2, 4]
    assert result.arrays["cluster"].tolist() == [0, 0, 1, -1, 1, -1]
    assert _run(atoms, duplicate_cosine=0.7).numbers["duplicate_units"] == 4
    assert result.embedding is not None
    assert result.embedding.labels[-1] == "unit 4, cluster 1, lifetime 1.000"
    np.testing.assert_allclose(np.linalg.norm(result.embedding.vectors, axis=1), 1, rtol=1e-6)
    assert result.embedding.pictures.shape == (4, 4, 4)


def test_units_of_a_decoder_that_is_not_linear_are_compared_at_their_typical_code() -> None:
    generator = torch.Generator().manual_seed(1)
    z, atoms = torch.rand(21, 3, generator=generator), torch.randn(3, 16, generator=generator)
    subject = subject_of(z, atoms)
    subject.coder.decode = lambda codes: torch.tanh(codes @ atoms + 0.5)  # type: ignore[method-assign]
    added = torch.tanh(z.median(dim=0).values[:, None] * atoms + 0.5) - torch.tanh(torch.tensor(0.5))
    result = similarity.analyse(subject, duplicate_cosine=0.95, cluster_cosine=0.5)
    np.testing.assert_allclose(result.arrays["cosine"], cosine_similarity(added.numpy()), atol=1e-5)


def test_cosines_and_duplicates_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(5, 16, generator=generator)[torch.arange(40) % 5]
    atoms[10:] += 0.25 * torch.randn(30, 16, generator=generator)
    result = _run(atoms)
    np.testing.assert_allclose(result.arrays["cosine"], cosine_similarity(atoms.numpy()), atol=1e-6)
    off = np.abs(cosine_similarity(atoms.numpy())) - np.eye(40)
    np.testing.assert_allclose(result.arrays["nearest_cosine"], off.max(axis=1), atol=1e-6)
    distances = (1 - off - np.eye(40)).clip(0)
    # DBSCAN with 1 sample a core point is single linkage: the same connected components.
    clusters = DBSCAN(eps=0.05, min_samples=1, metric="precomputed").fit(distances).labels_
    sizes = np.bincount(clusters)
    assert 1 < (sizes > 1).sum() < 12
    assert similarity.duplicate_groups(F.normalize(atoms, dim=1), 0.95) == sorted(sizes[sizes > 1])[::-1]
    assert result.numbers["duplicate_units"] == sizes[sizes > 1].sum()


def test_of_many_units_some_are_clustered_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    atoms[30:] = -1.0001 * atoms[20:30]
    every = _run(atoms)
    monkeypatch.setattr(similarity, "_MOST", 14)
    monkeypatch.setattr(functional, "BLOCK", 120)  # 3 rows at a time
    some = _run(atoms)
    assert some.arrays["shown"].tolist() == list(range(0, 40, 3))
    for name in ("coherence", "nearest_cosine", "duplicate_units", "duplicate_groups", "units"):
        assert some.numbers[name] == pytest.approx(every.numbers[name])
    assert (some.numbers["duplicate_units"], some.numbers["compared_units"]) == (20, 14)
    np.testing.assert_allclose(some.arrays["nearest_cosine"], every.arrays["nearest_cosine"], rtol=1e-6)
    assert some.arrays["cosine"].shape == (14, 14)
    assert (some.arrays["cluster"] >= 0).nonzero()[0].tolist() == some.arrays["shown"].tolist()
    assert some.embedding is not None
    assert len(some.embedding.labels) == 14
    assert some.numbers["random_nearest_cosine"] == pytest.approx(every.numbers["random_nearest_cosine"], abs=0.1)
    counts = [patch.get_data().values.sum() for patch in some.figures["nearest"].axes[0].patches]
    assert counts == pytest.approx([40, 40])


def test_duplicates_are_joined_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain, each like the next, whose links lie apart; a pair; and one alone."""
    angles = torch.deg2rad(torch.tensor([0.0, 20, 120, 40, 10, 30, 123, 80, 50]))
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    for block in (9, 20, 2**22):
        monkeypatch.setattr(functional, "BLOCK", block)
        assert similarity.duplicate_groups(directions, 0.98) == [6, 2]


def test_the_order_keeps_clusters_together() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 16, generator=generator)[torch.arange(24) % 4]
    flips = torch.randint(0, 2, (24, 1), generator=generator) * 2 - 1
    cosines = cosine_similarity((flips * (centres + 0.1 * torch.randn(24, 16, generator=generator))).numpy())
    order = similarity.cluster_order(cosines)
    assert sorted(order) == list(range(24))
    groups = order % 4
    assert (np.diff(groups) != 0).sum() == 3
    distances = squareform(1 - np.abs(cosines), checks=False)
    merged = squareform(cophenet(linkage(distances, method="average")))
    assert (merged[order[:-1], order[1:]] < 0.2).sum() == 20  # neighbours are joined early


def test_clusters_of_a_dictionary_with_known_groups() -> None:
    """Three, two and one around axes of their own, at small angles and signs of either kind; a dead unit."""
    atoms = torch.zeros(7, 16)
    degrees, signs = [0, 0, 0, 20, 20, -22, 0], [1, -1, 1, 1, -1, 1, 1]
    for atom, group, angle, sign in zip(atoms, [2, 0, 1, 0, 2, 0, 0], np.deg2rad(degrees), signs, strict=True):
        atom[2 * group], atom[2 * group + 1] = sign * np.cos(angle), sign * np.sin(angle)
    z = torch.ones(3, 7)
    z[:, 6] = 0
    for cosine, expected in (
        (0.9, [0, 1, 2, 1, 0, 3, -1]),  # 0.94 between two, and (0.93 + 0.74) / 2 to the third
        (0.8, [1, 0, 2, 0, 1, 0, -1]),
        (0.01, [1, 0, 2, 0, 1, 0, -1]),
    ):
        result = similarity.analyse(subject_of(z, atoms), duplicate_cosine=0.95, cluster_cosine=cosine)
        assert result.arrays["cluster"].tolist() == expected
        assert result.numbers["clusters"] == 2
        assert result.numbers["largest_cluster"] == expected.count(0)
        assert result.numbers["clustered_units"] == expected.count(0) + expected.count(1)
        outlines = [(patch.get_x(), patch.get_width()) for patch in result.figures["cosines"].axes[0].patches]
        in_order = result.arrays["cluster"][result.arrays["cluster_order"]].tolist()
        assert sorted(outlines) == sorted((in_order.index(c), expected.count(c)) for c in (0, 1))
        assert result.embedding is not None
        names = [label.split(", ")[1] for label in result.embedding.labels]
        assert names == [f"cluster {c}" if c < 2 else "no cluster" for c in expected[:-1]]


def test_clusters_against_scikit_learn() -> None:
    atoms = torch.randn(60, 16, generator=torch.Generator().manual_seed(0)).numpy()
    cosines = cosine_similarity(atoms)
    label = similarity.clusters(cosines, 0.4)
    reference = AgglomerativeClustering(None, metric="precomputed", linkage="average", distance_threshold=0.6)
    expected = reference.fit_predict(1 - np.abs(cosines))
    assert 5 < len(set(expected.tolist())) < 55
    np.testing.assert_array_equal(label[:, None] == label, expected[:, None] == expected)
    assert (np.diff(np.bincount(label)) <= 0).all()


def test_the_plane_is_that_of_pca() -> None:
    points = torch.randn(30, 16, generator=torch.Generator().manual_seed(0)).double().numpy()
    plane, shares = similarity.principal_plane(points)
    reference = PCA(2).fit(points)
    np.testing.assert_allclose(np.abs(plane), np.abs(reference.transform(points)), atol=1e-9)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_)


def test_as_many_random_directions_are_nearly_orthogonal() -> None:
    random = similarity._random_directions(100, 10_000)
    assert similarity.nearest_cosines(random).max() < 0.06
    assert _run(torch.randn(50, 16)).numbers["random_nearest_cosine"] == pytest.approx(0.55, abs=0.1)


@pytest.mark.parametrize(
    "atoms",
    [torch.zeros(4, 16), torch.rand(1, 16), torch.ones(5, 16), torch.eye(16), -torch.rand(2, 16), -torch.eye(16)[:3]],
    ids=["zero", "one", "constant", "orthogonal", "negative", "two"],
)
@pytest.mark.parametrize("code", [0.0, 1.0], ids=["dead", "alive"])
def test_degenerate(atoms: torch.Tensor, code: float) -> None:
    result = _run(atoms, torch.full((3, len(atoms)), code))
    json.dumps(result.numbers, allow_nan=False)
    for figure in result.figures.values():
        assert to_png(figure, dpi=20).startswith(b"\x89PNG")
    if len(atoms) == 1 or not atoms.any() or not code:
        assert result.numbers["coherence"] is None
        assert result.numbers["duplicate_units"] == 0
    if not atoms.any() or not code:
        assert result.figures == {}
        assert result.embedding is None


def test_figures_show_what_was_measured() -> None:
    atoms = torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    atoms[29] = 1.0001 * atoms[28]
    z = torch.ones(4, 30)
    z[:, :7] = 0
    result = _run(atoms, z)
    order = result.arrays["cluster_order"]
    axes = result.figures["cosines"].axes[0]
    place = [result.arrays["unit"].tolist().index(unit) for unit in order]
    np.testing.assert_array_equal(axes.images[0].get_array(), result.arrays["cosine"][np.ix_(place, place)])
    low, high = axes.images[0].get_clim()
    assert low == -high
    axes = result.figures["map"].axes[0]
    (dots,) = axes.lines
    assert len(axes.images) + len(dots.get_xdata()) == 23
    assert len(dots.get_xdata()) >= 1  # one of the twins has no room
    boxes = np.array([image.get_extent() for image in axes.images])
    apart = np.abs(boxes[:, None, ::2] - boxes[None, :, ::2]).max(axis=2) + np.eye(len(boxes))
    assert (apart >= boxes[0, 1] - boxes[0, 0]).all()  # no picture covers another
    counts = [patch.get_data().values.sum() for patch in result.figures["nearest"].axes[0].patches]
    assert counts == [23, 23]
