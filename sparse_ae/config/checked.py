"""Constructors that check their arguments against their own annotations, called from Python as from a config."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sparse_ae.config.build import check_arguments

P = ParamSpec("P")
T = TypeVar("T")


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Decorate ``__init__``: convert and check its arguments as ``config.build`` does for a config.

    The constructor then raises ``ConfigError`` for each value that its annotations exclude.
    """
    signature = inspect.signature(init)
    this = next(iter(signature.parameters))
    further = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), "")

    @functools.wraps(init)
    def check_and_init(*args: P.args, **kwargs: P.kwargs) -> None:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        instance = {this: arguments.pop(this)}
        arguments |= arguments.pop(further, {})
        init(**instance, **check_arguments(init, arguments, "", given=(this,)))  # type: ignore[call-arg]

    return check_and_init


def with_options_of(base: type) -> Callable[[type[T]], type[T]]:
    """Decorate a class whose ``__init__`` passes ``**options`` on to ``base``: its signature shows them by name."""

    def show(cls: type[T]) -> type[T]:
        own = inspect.signature(vars(cls)["__init__"]).parameters
        named = {name: p for name, p in own.items() if p.kind is not p.VAR_KEYWORD}
        inherited = {name: p for name, p in inspect.signature(base).parameters.items() if name not in named}
        together = [p for name, p in (named | inherited).items() if name != "self"]
        cls.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
        return cls

    return show
