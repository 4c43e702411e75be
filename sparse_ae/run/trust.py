"""Trust in specs that came in a file: building one runs no code but a known constructor."""

import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from sparse_ae.config.build import TARGET
from sparse_ae.run.errors import RunError

_PACKAGE = __name__.partition(".")[0]


def check_trusted(spec: Any, base: type, where: str) -> None:
    """Raise ``RunError`` unless ``spec`` names a subclass of ``base`` that is safe to construct.

    The class has to be one of this package, or of a module that the caller has imported already, and nothing nested in
    the spec may name a target of its own. ``where`` is the file, for messages.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get(TARGET), str):
        raise RunError(where, reason=f"describes no {base.__name__}; the file is damaged or foreign")
    module, _, name = spec[TARGET].rpartition(".")
    ours = module.split(".")[0] == _PACKAGE
    if not ours and module not in sys.modules:
        raise RunError(where, reason=f"{spec[TARGET]} is not trusted; import {module} yourself before loading")
    found = getattr(importlib.import_module(module), name, None) if ours else None
    found = found or getattr(sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise RunError(
            where, reason=f"{spec[TARGET]} is not a subclass of {base.__name__}; the file is damaged or foreign"
        )
    if TARGET in json.dumps([value for key, value in spec.items() if key != TARGET]):
        raise RunError(where, reason=f"a {TARGET} inside another is not trusted")
