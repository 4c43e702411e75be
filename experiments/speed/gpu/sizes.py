"""Sizes of the benchmarks, of a GPU and of a rehearsal on the CPU."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """How much of everything is measured."""

    images: int
    """Training images of an epoch."""
    epochs: int
    """Epochs of each run, of which the first is not counted."""
    members: tuple[int, ...]
    """Numbers of runs that train together as a user's command trains them."""
    stacked: tuple[int, ...]
    """Numbers of models in bare steps."""
    topk: tuple[int, int, int, int]
    """Units, dimensions, batch and k of TopK."""
    square: int
    """Rows and columns of the product that shows the peak."""
    units: tuple[int, ...]
    """Numbers of units of sparse products."""
    active: tuple[int, ...]
    """Numbers of codes that are not 0 of sparse products."""


OF = {
    "cuda": Sizes(
        images=55_000,
        epochs=4,
        members=(10, 60),
        stacked=(5, 10, 60),
        topk=(16_384, 768, 4096, 64),
        square=8192,
        units=(4096, 16_384, 65_536),
        active=(8, 16, 32, 64, 128, 256),
    ),
    "cpu": Sizes(
        images=2560,
        epochs=4,
        members=(2, 6),
        stacked=(2, 6),
        topk=(1024, 128, 256, 16),
        square=1024,
        units=(1024,),
        active=(8, 64, 256),
    ),
}
