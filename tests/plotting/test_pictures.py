"""Rows as pictures: where each value stands, in which range it is drawn, and what the title says about it."""

import math

import numpy as np
import pytest

from sparse_ae.plotting.mosaic import Block, feature_grid, mosaic
from sparse_ae.plotting.pictures import View, caption, own_scale


def _rows(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, size))


def test_images_are_shown_as_they_are() -> None:
    grey = _rows(4, 2 * 3)
    np.testing.assert_array_equal(View((1, 2, 3)).pictures(grey)[1], [grey[1, :3], grey[1, 3:]])
    colour = _rows(4, 3 * 2 * 5)
    pictures = View((3, 2, 5)).pictures(colour)
    assert pictures.shape == (4, 2, 5, 3)
    for channel, row, column in np.ndindex(3, 2, 5):
        assert pictures[2, row, column, channel] == colour[2, channel * 10 + row * 5 + column]
    other = View((2, 2, 3))
    np.testing.assert_array_equal(other.pictures(_rows(1, 12))[0], _rows(1, 12).reshape(4, 3))
    assert other.arrangement == "2 channels, one below the other"
    assert View((1, 2, 3)).arrangement == View((3, 2, 5)).arrangement == ""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 13, 16, 17, 20, 47, 64, 97, 784, 4097])
def test_each_value_of_a_vector_stands_in_its_place(size: int) -> None:
    view, row = View((size,)), np.arange(1.0, size + 1)
    picture = view.pictures(row[None])[0]
    height, width = picture.shape
    if size <= 16:
        assert view.arrangement == (f"{size} values from left to right" if size > 1 else "")
        assert height == width // 2
        assert width >= 8
        assert (picture == picture[0]).all()
        np.testing.assert_array_equal(picture[0], np.repeat(row, width // size))
        return
    assert view.arrangement == f"{size} values in rows of {width}"
    np.testing.assert_array_equal(picture.flatten()[:size], row)
    assert np.isnan(picture.flatten()[size:]).all()
    assert math.sqrt(size) <= width < 2 * math.sqrt(size) + 2
    blanks = [-size % columns for columns in range(math.ceil(math.sqrt(size)), 2 * math.ceil(math.sqrt(size)) + 1)]
    assert picture.size - size == min(blanks)


@pytest.mark.parametrize("shape", [(1,), (5,), (30,), (1, 4, 4), (3, 4, 4), (2, 4, 4)])
def test_no_rows_are_no_pictures(shape: tuple[int, ...]) -> None:
    view, size = View(shape), math.prod(shape)
    assert view.pictures(np.empty((0, size))).shape == (0, *view.pictures(np.zeros((1, size))).shape[1:])


def test_pixels_from_0_to_1_keep_their_range_and_all_else_follows_the_data() -> None:
    random = np.random.default_rng(0)
    pixels = random.random((500, 12))
    for channels in (1, 3):
        view = View.of(pixels, (channels, 2, 6 // channels))
        assert (view.low, view.high, view.is_unit, view.has_bar) == (0, 1, True, False)
    dark = View.of(pixels / 50, (1, 3, 4))
    assert dark.high == pytest.approx(np.percentile(pixels / 50, 99.5))
    assert not dark.is_unit
    vectors = View.of(pixels, (12,))
    assert (vectors.is_unit, vectors.has_bar, vectors.colours) == (False, True, "viridis")
    assert (vectors.low, vectors.high) == pytest.approx(np.percentile(pixels, (0.5, 99.5)))
    both = View.of(random.normal(size=(500, 12)), (12,))
    assert both.low == -both.high
    assert both.colours == "RdBu_r"
    outlier = np.concatenate([pixels, np.full((1, 12), 1e6)])
    assert View.of(outlier, (12,)).high < 1.1
    mostly_positive = View.of(100 * pixels - 1, (12,))
    assert (mostly_positive.low, mostly_positive.high) == pytest.approx(np.percentile(100 * pixels - 1, (0.5, 99.5)))
    bytes_in_colour = View.of(np.round(255 * pixels), (3, 2, 2))
    assert not bytes_in_colour.has_bar  # three numbers make a colour
    np.testing.assert_allclose(bytes_in_colour.scaled(np.array([-5.0, 128, 300])), [0, 0.5, 1], atol=0.01)


def test_data_with_hardly_a_value_that_differs_have_a_range_too() -> None:
    sparse = np.zeros((100, 30))
    sparse[7, 3] = 4
    assert View.of(sparse, (30,))[1:] == (0, 4)
    assert View.of(np.full((5, 30), 2.5), (30,))[1:] == (2.5, 3.5)


def test_many_rows_are_looked_at_in_part() -> None:
    x = np.arange(3 * 2**21, dtype=np.float32).reshape(-1, 3)
    view = View.of(x, (3,))
    assert (view.low, view.high) == pytest.approx((0.005 * x.size, 0.995 * x.size), rel=1e-3)


def test_a_picture_on_its_own_scale() -> None:
    atom = np.array([[-2.0, 0, 1], [4, np.nan, -1]])
    np.testing.assert_allclose(own_scale(atom, signed=True), atom / 4)
    np.testing.assert_allclose(own_scale(atom, signed=False), (atom + 2) / 6)
    colour = np.stack([atom, atom, atom], axis=2)
    np.testing.assert_allclose(own_scale(colour, signed=True), (colour / 4 + 1) / 2)
    np.testing.assert_array_equal(own_scale(np.full((2, 2), np.nan), signed=False), np.nan)
    np.testing.assert_array_equal(own_scale(np.zeros((2, 2, 3)), signed=True), 0.5)


def test_titles_say_how_to_read_the_pictures() -> None:
    assert caption("t", View((1, 4, 4)), signed=False) == "t"
    assert caption("t", View((20,)), signed=True) == "t\n20 values in rows of 5\nred is positive, blue negative"
    assert "brighter than grey is positive" in caption("t", View((3, 4, 4)), signed=True)


def test_colour_pictures_stand_in_their_places_and_what_is_between_them_is_transparent() -> None:
    view = View((3, 4, 4))
    samples = view.pictures(np.random.default_rng(0).random((5, 48))).reshape(1, 5, 4, 4, 3)
    atom = samples[0, 0] - 0.5
    block = Block(np.concatenate([atom[None, None], samples[:, 1:]], axis=1), atoms=1)
    (axes,) = mosaic([block], title="t", view=view).axes
    atoms, photographs = (image.get_array() for image in axes.images)
    np.testing.assert_allclose(atoms[:4, :4, :3], 0.5 + 0.5 * atom / np.abs(atom).max())
    np.testing.assert_allclose(photographs[:4, 6:10, :3], samples[0, 1])  # a gap of 1 and one of 4 // 3
    drawn = np.zeros(photographs.shape[:2])
    for start in (6, 11, 16, 21):
        drawn[:4, start : start + 4] = 1
    np.testing.assert_array_equal(photographs[..., 3], drawn)
    assert len(axes.patches) == 5  # a frame each: a white one would be lost on paper


def test_other_units_have_a_colour_bar_in_the_range_of_the_data() -> None:
    x = 7 * _rows(40, 20)
    view = View.of(x, (20,))
    pictures = view.pictures(x[:6]).reshape(2, 3, 4, 5)
    figure = mosaic([Block(pictures)], title="t", view=view)
    sheet, bar = figure.axes
    assert sheet.images[0].get_clim() == bar.get_xlim() == (view.low, view.high)
    np.testing.assert_array_equal(sheet.images[0].get_array()[:4, :5], pictures[0, 0])
    assert bar.get_xlabel() == "value in a sample"
    assert len(feature_grid(pictures[0], ["0", "1", "2"], title="t", view=view).axes) == 1  # atoms have none
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in (bar.xaxis.label, *bar.get_xticklabels())]
    assert all(box.y0 >= 0 and box.y1 < sheet.get_window_extent().y0 for box in boxes)


@pytest.mark.parametrize(("shape", "inches"), [((8, 72), (2.7, 0.3)), ((72, 8), (0.45, 4.05)), ((20, 20), (0.9, 0.9))])
def test_long_images_are_as_large_as_square_ones(shape: tuple[int, int], inches: tuple[float, float]) -> None:
    figure = mosaic([Block(np.zeros((1, 2, *shape)))], title="t")
    width, height = figure.get_size_inches()
    axes, sheet = figure.axes[0], figure.axes[0].images[0].get_array()
    wide = axes.get_position().width * width / sheet.shape[1] * shape[1]
    high = axes.get_position().height * height / sheet.shape[0] * shape[0]
    assert (wide, high) == pytest.approx(inches)
