"""What all figures share: colours, and how they become files."""

import io

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Array = npt.NDArray[np.floating]

BLUE, GREY = "#0072B2", "#666666"  # from the Okabe-Ito palette, safe for colour-blind readers


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
