"""Pictures as arrays of bytes, with Pillow and torchvision."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as transforms

Pixels = npt.NDArray[np.uint8]

_BYTES_OF_16_BITS = 257
"""Ratio of the largest value of 16 bits to that of 8."""


def read_picture(file: Path, channels: int, size: tuple[int, int] | None = None) -> Pixels | None:
    """Read a picture as bytes ``(channels, H, W)``, upright; None if it cannot be decoded.

    For a ``size`` (H, W) it is scaled, keeping its aspect, until it just covers that, and its centre is taken.
    """
    try:
        with Image.open(file) as opened:
            picture = _as_bytes(ImageOps.exif_transpose(opened)).convert("RGB" if channels == 3 else "L")
    except MemoryError:
        raise
    except Exception:  # each of Pillow's formats raises errors of its own about a damaged file
        return None
    if size is not None:
        scale = max(size[0] / picture.height, size[1] / picture.width)
        covering = [max(round(scale * picture.height), size[0]), max(round(scale * picture.width), size[1])]
        picture = transforms.center_crop(transforms.resize(picture, covering, antialias=True), list(size))
    pixels: Pixels = transforms.pil_to_tensor(picture).numpy()
    return pixels


def _as_bytes(picture: Image.Image) -> Image.Image:
    """16 bits per pixel as 8; Pillow's own conversion would make 255 of all but the darkest."""
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).astype(np.float64) / _BYTES_OF_16_BITS
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
