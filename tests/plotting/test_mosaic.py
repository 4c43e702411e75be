"""Mosaics of images: where each image and name stands, on which scale, and at which size."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sparse_ae.plotting.mosaic import Block, feature_grid, mosaic
from sparse_ae.plotting.style import to_png


def _images(rows: int, columns: int, height: int = 4, width: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((rows, columns, height, width))


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_blocks_stand_side_by_side() -> None:
    first, second = _images(2, 3), _images(1, 2)
    figure = mosaic([Block(first, rows=["a", "b"], columns=["x", "y", "z"]), Block(second, name="other")], title="t")
    assert _texts(figure) == ["a", "b", "x", "y", "z", "other"]
    (sheet,) = (image.get_array() for image in figure.axes[0].images)
    for (row, column), top, left in (((0, 0), 0, 0), ((1, 2), 5, 10), ((0, 1), 0, 5)):
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 4], first[row, column])
    start = sheet.shape[1] - (2 * 5 - 1)
    assert start > 3 * 5
    np.testing.assert_array_equal(sheet[:4, start : start + 4], second[0, 0])
    assert sheet.mask[:, 14:start].all()
    assert sheet.mask[5:, start:].all()


def test_atoms_have_a_scale_of_their_own_and_stand_apart_from_photographs() -> None:
    images = _images(1, 3, 6, 6)
    images[0, 0] *= 7
    atoms, photographs = (image.get_array() for image in mosaic([Block(images, atoms=1)], title="t").axes[0].images)
    low, high = images[0, 0].min(), images[0, 0].max()
    np.testing.assert_allclose(atoms[:6, :6], (images[0, 0] - low) / (high - low))
    assert atoms.mask[:, 6:].all()
    np.testing.assert_array_equal(photographs[:6, 9:15], images[0, 1])  # a gap of 1 and one of 6 // 3
    images[0, 0, 0, 0] = -14
    image, _ = mosaic([Block(images, atoms=1)], title="t").axes[0].images
    assert (image.get_clim(), image.cmap.name) == ((-1, 1), "RdBu_r")
    np.testing.assert_allclose(image.get_array()[:6, :6], images[0, 0] / 14)


def test_labels_make_room_below_their_row() -> None:
    images = _images(3, 2)
    sheet = mosaic([Block(images, below=["", "", "1", "2"])], title="t").axes[0].images[0].get_array()
    np.testing.assert_array_equal(sheet[5:9, :4], images[1, 0])  # no label above
    assert sheet.shape[0] == 3 * (4 + 1)
    large = _images(2, 2, 28, 28)
    plain, labelled = (mosaic([Block(large, below=below)], title="t") for below in ([], ["1"] * 4))
    assert labelled.get_figheight() > plain.get_figheight() + 0.2


def test_an_atom_of_nan_with_a_label_is_crossed_out() -> None:
    images = np.full((3, 4, 4), np.nan)
    images[0] = 1
    figure = feature_grid(images, ["0", "1", ""], title="t")
    assert len(figure.axes[0].lines) == 2
    assert _texts(figure) == ["0", "1"]


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)], ids=["no row", "no column"])
@pytest.mark.parametrize("atoms", [0, 1])
def test_a_block_without_images_says_so(shape: tuple[int, ...], atoms: int) -> None:
    empty = Block(np.empty(shape), min(atoms, shape[1]), name="none", empty="nothing there")
    figure = mosaic([empty, Block(_images(2, 2))], title="t")
    assert _texts(figure) == ["none", "nothing there"]
    assert to_png(figure, dpi=30).startswith(b"\x89PNG")
    assert to_png(mosaic([empty, empty], title="t"), dpi=30).startswith(b"\x89PNG")


@pytest.mark.parametrize(("columns", "inches"), [(2, 0.9), (30, 11 / (30 * (1 + 1 / 14)))])
def test_images_are_as_large_as_the_figure_allows(columns: int, inches: float) -> None:
    figure = mosaic([Block(_images(1, columns, 28, 28))], title="t")
    axes, sheet = figure.axes[0], figure.axes[0].images[0].get_array()
    pixel = axes.get_position().width * figure.get_figwidth() / sheet.shape[1]
    assert 28 * pixel == pytest.approx(inches)
    assert axes.get_position().height * figure.get_figheight() / sheet.shape[0] == pytest.approx(pixel)  # square


def test_a_long_title_fits() -> None:
    title = "What the most important units of this run add, and the error that each of them saves"
    figure = mosaic([Block(_images(1, 1))], title=title)
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert box.x0 > 0
    assert box.x1 < figure.bbox.width
