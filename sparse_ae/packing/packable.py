"""Facts about a job by which a sweep decides what trains together."""

from typing import NamedTuple


class Packable(NamedTuple):
    """A job that can train together with others."""

    program: str
    """Name of what it has in common with those."""
    n_parameters: int
    """Number of values that it learns."""
    n_bytes: int
    """Memory that it takes while it trains, about."""
