"""sparse_ae: train, sweep, resume and analyse sparse autoencoders.

``sparse_ae.load(run_dir)`` gives back a trained model; everything else is a command (see the README) or a module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_ae.runs.export import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import ``load`` on first use: torch takes a second, and ``--help`` does not need it."""
    if name == "load":
        from sparse_ae.runs.export import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
