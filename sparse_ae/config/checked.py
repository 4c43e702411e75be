"""Constructors that check their arguments against their own annotations, called from Python as from a config."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from sparse_ae.config.build import check_arguments

P = ParamSpec("P")


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Decorate ``__init__``: convert and check its arguments as ``config.build`` does for a config.

    The constructor then raises ``ConfigError`` for each value that its annotations exclude.
    """
    signature = inspect.signature(init)
    this = next(iter(signature.parameters))

    @functools.wraps(init)
    def check_and_init(*args: P.args, **kwargs: P.kwargs) -> None:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        instance = {this: arguments.pop(this)}
        init(**instance, **check_arguments(init, arguments, "", given=(this,)))  # type: ignore[call-arg]

    return check_and_init
