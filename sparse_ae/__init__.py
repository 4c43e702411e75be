"""sparse_ae: train, sweep, resume and analyse sparse autoencoders.

The commands as functions (``train``, ``sweep``, ``fit``, ``evaluate``, ``analyse``), their runs (``open``, ``runs``),
and ``load``, which gives a run's model. Networks, methods and coders are in ``models``, ``sparsity`` and ``coders``,
estimators for scikit-learn in ``sklearn``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_ae import sklearn
    from sparse_ae.run.export import load
    from sparse_ae.session.calls import analyse, evaluate, fit, runs, sweep, train
    from sparse_ae.session.calls import open_run as open
    from sparse_ae.session.run import Run

    __version__: str

__all__ = ["Run", "__version__", "analyse", "evaluate", "fit", "load", "open", "runs", "sklearn", "sweep", "train"]

_PLACES = {
    **{name: ("sparse_ae.session.calls", name) for name in ("analyse", "evaluate", "fit", "runs", "sweep", "train")},
    "open": ("sparse_ae.session.calls", "open_run"),
    "Run": ("sparse_ae.session.run", "Run"),
    "load": ("sparse_ae.run.export", "load"),
}


def __getattr__(name: str) -> Any:
    """Resolve names on first use: importing torch takes a second, and ``--help`` needs none of them."""
    if name == "__version__":
        from importlib.metadata import version

        return version("sparse-ae")
    if name == "sklearn":
        return import_module("sparse_ae.sklearn")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
