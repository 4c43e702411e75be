"""From a plain mapping to the object it describes, every key checked against the constructor's own signature.

A spec is ``{"_target_": "package.module.Name", **arguments}``, the convention of Hydra's ``instantiate``; a nested
mapping with a ``_target_`` is built first. The signature is the schema: its names are the keys allowed, its annotations
(pydantic's constrained types among them) the values allowed. Training, loading and the tests all build through here.
"""

import difflib
import functools
import importlib
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

__all__ = ["ConfigError", "build", "check_arguments", "check_trusted", "locate", "nearest"]

_PARTIAL = "_partial_"
_TARGET = "_target_"


class ConfigError(ValueError):
    """A user's mistake in the configuration: one line with the key, the value given and what is allowed."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean X? allowed: ...)``: the clause that ends an error about an unknown ``name``."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f" ({hint}allowed: {', '.join(names)})"


def build(spec: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Call ``spec["_target_"]`` with the spec's other keys and ``extra``; with ``_partial_: true`` bind them instead.

    ``key`` is where the spec stands in the configuration, for messages. Raises ``ConfigError`` for an unknown or
    missing key, a value of the wrong type or out of range, and for whatever the constructor itself raises.
    """
    for name in spec:
        if name in extra:
            raise ConfigError(f"{_join(key, name)}: is set by the framework and cannot be overridden")
    if _TARGET not in spec:  # an option such as none, and what an experiment or a user set of another one
        given = next(((name, value) for name, value in spec.items() if name != _PARTIAL), None)
        if given is None:
            raise ConfigError(f"{_join(key, _TARGET)}: is required and was not given")
        place = _join(key, given[0])
        raise ConfigError(
            f"{place}={given[1]}: the option chosen for {key} takes none (allowed: another one, or ~{place})"
        )
    target = locate(spec[_TARGET], key)
    partial = bool(spec.get(_PARTIAL, False))
    arguments = {
        name: _build_nested(value, _join(key, name)) for name, value in spec.items() if name not in (_TARGET, _PARTIAL)
    }
    checked = check_arguments(target, arguments, key, given=set(extra), partial=partial)
    if partial:
        return functools.partial(target, **checked, **extra)
    try:
        return target(**checked, **extra)
    except ConfigError:
        raise
    except Exception as error:  # whatever a constructor objects to, in its own words
        named = re.match(r"\w+=", str(error))  # our own begin with the argument and its value
        raise ConfigError(f"{key}{'.' if named else ': '}{error}") from error


def check_trusted(spec: Any, base: type, where: str) -> None:
    """Raise ``ConfigError`` unless building a spec that came in a file runs no code but a ``base``'s constructor.

    The class has to be one of this package, or of a module that the caller has imported already, and nothing nested in
    the spec may name a target of its own.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get(_TARGET), str):
        raise ConfigError(f"{where}: describes no {base.__name__} (a damaged or foreign file)")
    module, _, name = spec[_TARGET].rpartition(".")
    if module.split(".")[0] != __package__ and module not in sys.modules:
        raise ConfigError(f"{where}: {spec[_TARGET]} is not trusted (import {module} yourself before loading)")
    found = getattr(importlib.import_module(module), name, None) if module.startswith(__package__) else None
    found = found or getattr(sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{where}: {spec[_TARGET]} is no {base.__name__} (a damaged or foreign file)")
    if _TARGET in json.dumps([value for key, value in spec.items() if key != _TARGET]):
        raise ConfigError(f"{where}: a {_TARGET} inside another is not trusted")


def locate(path: str, key: str) -> Callable[..., Any]:
    """The class or function at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}.{_TARGET}={path}: cannot be imported ({error})") from error
    if not callable(target):
        raise ConfigError(f"{key}.{_TARGET}={path}: is no class or function")
    return target  # type: ignore[no-any-return]


def _build_nested(value: Any, key: str) -> Any:
    if isinstance(value, Mapping) and _TARGET in value:
        return build(value, key)
    if isinstance(value, list):
        return [_build_nested(item, f"{key}[{i}]") for i, item in enumerate(value)]
    return value


def check_arguments(
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    key: str,
    *,
    given: Collection[str] = (),
    partial: bool = False,
) -> dict[str, Any]:
    """``arguments`` converted to the types that ``target``'s signature annotates.

    ``given`` names the parameters that something else supplies; with ``partial`` none is required. Raises
    ``ConfigError`` as ``build`` does.
    """
    parameters = _parameters(target)
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if name not in named and not open_ended:
            raise ConfigError(f"{_join(key, name)}: no such key{nearest(name, set(named) - set(given))}")
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in arguments and name not in given and not partial:
            raise ConfigError(f"{_join(key, name)}: is required and was not given")
    for name, value in arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{_join(key, name)}={value}: should be a finite number")
    return {
        name: _convert(value, named[name].annotation if name in named else Any, _join(key, name))
        for name, value in arguments.items()
    }


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The signature's parameters; a type written in C may have none to read, and then takes whatever it is given."""
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:  # annotations that only a type checker can resolve
        return inspect.signature(target).parameters
    except ValueError:
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _convert(value: Any, annotation: Any, key: str) -> Any:
    if annotation is inspect.Parameter.empty or annotation is Any:
        return value
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(e["msg"].removeprefix("Value error, ") for e in error.errors())
        text = "; ".join(reason.replace("Input should", "should") for reason in reasons)
        raise ConfigError(f"{key}={value}: {text}") from error


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    config = ConfigDict(arbitrary_types_allowed=True)
    try:
        return TypeAdapter(annotation, config=config)
    except Exception:  # third-party annotations that pydantic cannot read (or that carry a config): nothing to check
        return TypeAdapter(Any)
