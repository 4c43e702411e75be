"""Rows of any data as pictures: images as they are, vectors as heat maps."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

_STRIPES, _STRIPES_WIDE = 16, 8
"""Largest number of values that stand side by side as stripes, and the least width of all of them in pixels."""
_TAILS = (0.5, 99.5)
"""Percentiles of the data at which colours end."""
_MOST_VALUES = 2**21
"""Number of values from which the range is estimated."""
_LEAST_BRIGHT = 0.5
"""Largest value that images on the scale from 0 to 1 reach at least."""
_BOTH_SIGNS = 0.1
"""Share of the larger end of a range that the other end reaches, on the other side of 0, in data of both signs."""


class View(NamedTuple):
    """Samples of one shape as pictures, and the range of values that they are drawn in."""

    shape: tuple[int, ...]
    """Channels, height, width of an image; the number of values of a vector."""
    low: float = 0.0
    """Value of the lowest colour."""
    high: float = 1.0
    """Value of the highest colour."""

    @classmethod
    def of(cls, x: Array, shape: tuple[int, ...]) -> "View":
        """View of data ``(B, D)``: 0 to 1 for images in that range, else all but the extreme values.

        The range is symmetric around 0 if values of both signs are common.
        """
        low, high = float(x.min()), float(x.max())
        if len(shape) == 3 and low >= 0 and _LEAST_BRIGHT <= high <= 1:
            return cls(shape)
        some = x[:: math.ceil(x.size / _MOST_VALUES)]
        inner_low, inner_high = map(float, np.percentile(some, _TAILS))
        if inner_low < inner_high:  # nearly all values of sparse data are equal
            low, high = inner_low, inner_high
        if min(-low, high) > _BOTH_SIGNS * max(-low, high):
            low, high = -max(-low, high), max(-low, high)
        return cls(shape, low, high if high > low else low + 1)

    @property
    def is_image(self) -> bool:
        """True for images, False for vectors."""
        return len(self.shape) == 3

    @property
    def in_colour(self) -> bool:
        """True for images of three channels."""
        return self.is_image and self.shape[0] == 3

    @property
    def is_unit(self) -> bool:
        """True for images with pixels from 0 to 1."""
        return self.is_image and (self.low, self.high) == (0, 1)

    @property
    def noun(self) -> str:
        """Name of a sample in titles."""
        return "image" if self.is_image else "sample"

    @property
    def has_bar(self) -> bool:
        """True if a picture has to be read with a colour bar."""
        return not self.is_unit and not self.in_colour

    @property
    def is_framed(self) -> bool:
        """True for pictures that may be as white as the paper."""
        return self.in_colour or not self.is_image

    @property
    def colours(self) -> str:
        """Colour map of samples."""
        return "RdBu_r" if not self.is_image and self.low == -self.high else self.own_colours

    @property
    def own_colours(self) -> str:
        """Colour map of pictures without negative values that have a scale of their own."""
        return "gray" if self.is_image else "viridis"

    @property
    def arrangement(self) -> str:
        """Places of the values in a picture, where these do not speak for themselves; else empty."""
        if not self.is_image:
            (size,) = self.shape
            if size <= _STRIPES:
                return f"{size} values from left to right" if size > 1 else ""
            return f"{size} values in rows of {_folded(size)}"
        return "" if self.shape[0] in (1, 3) else f"{self.shape[0]} channels, one below the other"

    def pictures(self, rows: Array) -> Array:
        """Rows ``(n, D)`` as pictures ``(n, H, W)``, or ``(n, H, W, 3)`` in colour.

        Vectors of few values become stripes, longer ones are folded into rows, the last one filled up with NaN. Other
        channels than those of grey and colour stand one below the other.

        >>> View((4,)).pictures(np.arange(4.0)[None])[0, 0]
        array([0., 0., 1., 1., 2., 2., 3., 3.])
        >>> View((20,)).pictures(np.arange(20.0)[None])[0]
        array([[ 0.,  1.,  2.,  3.,  4.],
               [ 5.,  6.,  7.,  8.,  9.],
               [10., 11., 12., 13., 14.],
               [15., 16., 17., 18., 19.]])
        """
        n = len(rows)
        if self.is_image:
            channels, height, width = self.shape
            if self.in_colour:
                return rows.reshape(n, channels, height, width).transpose(0, 2, 3, 1)
            return rows.reshape(n, channels * height, width)
        (size,) = self.shape
        if size <= _STRIPES:
            row = np.repeat(rows, math.ceil(_STRIPES_WIDE / size), axis=1)
            return np.repeat(row[:, None], row.shape[1] // 2, axis=1)
        columns = _folded(size)
        filled = np.pad(rows, ((0, 0), (0, -size % columns)), constant_values=np.nan)
        return filled.reshape(n, filled.shape[1] // columns, columns)

    def scaled(self, pictures: Array) -> Array:
        """Pictures of samples, from 0 for the lowest to 1 for the highest colour."""
        scaled: Array = np.clip((pictures - self.low) / (self.high - self.low), 0, 1)
        return scaled


def caption(title: str, view: View, *, signed: bool) -> str:
    """``title`` of a figure of atoms or samples, followed by lines on how to read its pictures."""
    signs = "brighter than grey is positive, darker negative" if view.in_colour else "red is positive, blue negative"
    return "\n".join(line for line in (title, view.arrangement, signs if signed else "") if line)


def own_scale(picture: Array, *, signed: bool) -> Array:
    """Picture divided by its largest |value|, or stretched from 0 to 1 if not ``signed``.

    In colour ``(H, W, 3)`` both are from 0 to 1, and 0 becomes a medium grey if ``signed``.
    """
    low = 0.0 if signed else np.fmin.reduce(picture, axis=None)
    scaled: Array = (picture - low) / np.maximum(np.fmax.reduce(np.abs(picture - low), axis=None), 1e-12)
    return (scaled + 1) / 2 if signed and picture.ndim == 3 else scaled


def _folded(size: int) -> int:
    """Number of values in a row: near the square root, and such that the last row is as full as can be."""
    root = math.isqrt(size - 1) + 1
    return min(range(root, 2 * root + 1), key=lambda columns: (-size % columns, columns))
