"""Parameters of estimators: checked, made into parts, and named in messages as the estimators name them."""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from sparse_ae.config.build import TARGET, build, check_arguments, locate
from sparse_ae.config.errors import ConfigError, ConfigErrors, did_you_mean, listed

_NAMES = {
    r"\b(model\.)?latent_dim\b": "n_components",
    r"\b(method\.)?n_nonzero\b": "k",
    r"^sparsity$|\bsparsity(?==|\.\w)": "method",
    r"^model$|\bmodel(?==|\.\w)": "network",
    r"^method\.(k|coefficient)$": r"\1",
    r"\btarget=population\b": "another method",
    r"\btarget=none\b": "target_l0=None",
    r"^target(\.value)?$|\btarget(\.value)?(?==)": "target_l0",
    r"\bnull\b": "None",
}
"""Names of options on the command line, and those of parameters here."""


def parameters(estimator: BaseEstimator) -> dict[str, Any]:
    """Parameters of ``estimator``, as its constructor annotates them. Numbers of NumPy, as searches draw them, become
    Python's. Raises ``ConfigError`` for every value that the annotations exclude.
    """
    given = estimator.get_params(deep=False)
    return check_arguments(type(estimator), {name: _plain(value) for name, value in given.items()}, "")


def chosen_class(parameter: str, known: Mapping[str, str], choice: str | type[Any]) -> type[Any]:
    """The class that ``choice`` is, or names: ``known`` has a path for each name.

    Raises ``ConfigError`` about ``parameter`` for another name.
    """
    if isinstance(choice, type):
        return choice
    if choice not in known:
        reason = f"no such {parameter}{did_you_mean(choice, known)}"
        raise ConfigError(parameter, choice, reason, listed(known))
    found = locate(known[choice], parameter)
    assert isinstance(found, type)
    return found


def default(kind: type[Any], name: str) -> Any:
    """Default of the constructor's argument ``name``; None if it has no such argument."""
    found = inspect.signature(kind).parameters.get(name)
    return None if found is None else found.default


def made(parameter: str, kind: type[Any], options: Mapping[str, Any], **supplied: Any) -> Any:
    """A ``kind``, chosen by ``parameter``, with those ``options`` that are not None and what is ``supplied`` to it.

    Raises ``ConfigError`` as ``build`` does.
    """
    own = {name: _plain(value) for name, value in options.items() if value is not None}
    return build({TARGET: f"{kind.__module__}.{kind.__qualname__}", **own}, parameter, **supplied)


def check_taken(kind: type[Any], own: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for values that the constructor of ``kind`` has no argument for."""
    taken = inspect.signature(kind).parameters
    for name, value in own.items():
        if value is not None and name not in taken:
            raise ConfigError(name, value, f"{kind.__name__} takes none", "None")


def seed_of(random_state: Any) -> int:
    """Seed of torch's generators: ``random_state`` itself if that is a number, else one that it draws."""
    generator = check_random_state(random_state)
    return int(random_state if isinstance(random_state, Integral) else generator.randint(np.iinfo(np.int32).max))


@contextmanager
def renamed() -> Iterator[None]:
    """Let every ``ConfigError`` of the block speak of the estimator's parameters."""
    try:
        yield
    except ConfigError as error:
        errors = [
            ConfigError(_rename(e.key), _as_in_python(e.value), _rename(e.reason), _rename(e.expected))
            for e in error.errors
        ]
        raise (errors[0] if len(errors) == 1 else ConfigErrors(errors)) from error


def _rename(text: str) -> str:
    for ours, theirs in _NAMES.items():
        text = re.sub(ours, theirs, text)
    return text


def _as_in_python(value: Any) -> Any:
    """``value``, those that YAML writes otherwise as Python does."""
    return str(value) if value is None or isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
