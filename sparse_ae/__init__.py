"""sparse_ae: train, sweep, resume and analyse sparse autoencoders.

``sparse_ae.load(run_dir)`` loads a trained model; everything else is a command (see the README) or a module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_ae.runs.export import load

    __version__: str

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Resolve names on first use: importing torch takes a second, and ``--help`` needs neither of them."""
    if name == "load":
        from sparse_ae.runs.export import load

        return load
    if name == "__version__":
        from importlib.metadata import version

        return version("sparse-ae")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
