"""From a plain mapping to the object it describes, every key checked against the constructor's own signature.

A spec is ``{"_target_": "package.module.Name", **arguments}``, the convention of Hydra's ``instantiate``; a nested
mapping with a ``_target_`` is built first. The signature is the schema: its names are the keys, its annotations
(pydantic's constrained types among them) the values. Training, loading and the tests all build through here.
"""

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from sparse_ae.config.errors import NOT_GIVEN, ConfigError, Mistakes, UserError, did_you_mean, listed

TARGET, PARTIAL = "_target_", "_partial_"

S = TypeVar("S", bound=tuple[Any, ...])


def build(spec: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Call ``spec["_target_"]`` with the spec's other keys and ``extra``; with ``_partial_: true`` bind them instead.

    ``key`` is the place of the spec in the configuration, for messages. Raises ``ConfigError`` for unknown and missing
    keys and for values of the wrong type or out of range, all of them at once; then for a ``ValueError`` or
    ``TypeError`` of the constructor. Any other exception is a bug and passes through.
    """
    target, arguments = check_spec(spec, key, extra)
    if spec.get(PARTIAL, False):
        return functools.partial(target, **arguments, **extra)
    try:
        return target(**arguments, **extra)
    except ConfigError as error:
        raise (error.under(key) if error.key in arguments else error) from error
    except UserError:  # about a file or a folder, which it names
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(key, reason=str(error)) from error


def with_defaults(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    """``spec`` with its constructor's defaults of the keys that it lacks. Raises ``ConfigError`` if there is none."""
    parameters = _parameters(locate(spec[TARGET], key))
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty} | dict(spec)


def selected(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The specs by name of a group of which a config may select several options.

    Options set for one that was not selected have no ``_target_`` and are ignored. Raises ``ConfigError`` if an entry
    is not a mapping.
    """
    for name, spec in config[group].items():
        if not isinstance(spec, Mapping):
            raise ConfigError(f"{group}.{name}", spec, "not a group of options")
    return {name: spec for name, spec in config[group].items() if TARGET in spec}


def check_selected(config: Mapping[str, Any], group: str, given: Collection[str] = ()) -> None:
    """Check the selected specs of ``group`` as ``check_spec`` does. Raises ``ConfigError`` for all mistakes at once."""
    mistakes = Mistakes()
    for name, spec in selected(config, group).items():
        with mistakes.collect():
            check_spec(spec, f"{group}.{name}", given)
    mistakes.check()


def check_config(
    kind: type[S],
    groups: Mapping[str, Collection[str]],
    config: Mapping[str, Any],
    others: Mapping[str, Callable[[], None]],
) -> S:
    """The scalars of the config's top level as a ``kind`` of NamedTuple, once all of the config has been checked.

    ``groups`` maps each group of options to the arguments that the framework supplies to its constructor; ``others``
    maps a group that is no single spec to its own check. Raises ``ConfigError`` for every key and value that a
    signature refuses.
    """
    mistakes = Mistakes()
    fields: Collection[str] = kind._fields  # type: ignore[attr-defined]
    known = [*fields, *groups, *others]
    with mistakes.collect():
        settings = check_arguments(kind, {key: value for key, value in config.items() if key in fields}, "")
    wrong = [(error.key, error.value) for error in mistakes.found.values()]
    for group in (*groups, *others):
        spec = config.get(group, NOT_GIVEN)
        with mistakes.collect():
            if not isinstance(spec, Mapping):
                raise ConfigError(group, spec, "not a group of options")
            if group in others:
                others[group]()
            elif spec:
                # data.seed is ${seed}: what is wrong with that is said once
                own = {key: value for key, value in spec.items() if (key, value) not in wrong}
                check_spec(own, group, (*groups[group], *(spec.keys() - own.keys())))
    for key in config:
        if key not in known:
            mistakes.add(ConfigError(key, NOT_GIVEN, f"no such key{did_you_mean(key, known)}", listed(known)))
    mistakes.check()
    return kind(**settings)


def check_spec(
    spec: Mapping[str, Any], key: str, given: Collection[str] = ()
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The constructor that ``spec`` names and the arguments for it, converted; ``given`` are those supplied later.

    Raises ``ConfigError`` as ``build`` does, but for what only the constructor can object to.
    """
    _check_keys(spec, key, given)
    target = locate(spec[TARGET], key)
    mistakes = Mistakes()
    arguments = {}
    for name, value in spec.items():
        if name not in (TARGET, PARTIAL):
            with mistakes.collect():
                arguments[name] = _build_nested(value, _join(key, name))
    with mistakes.collect():
        checked = check_arguments(target, arguments, key, given=given, partial=bool(spec.get(PARTIAL, False)))
    mistakes.check()
    return target, checked


def _check_keys(spec: Mapping[str, Any], key: str, given: Collection[str]) -> None:
    for name in spec:
        if name in given:
            raise ConfigError(_join(key, name), reason="is set by the framework and cannot be overridden")
    if TARGET in spec:
        return
    other = next((name for name in spec if name != PARTIAL), None)
    if other is None:
        raise ConfigError(_join(key, TARGET), reason="is required and was not given")
    # An option such as none, with a key that an experiment or a user set for another option.
    place = _join(key, other)
    reason = f"the chosen {key} has no options; choose another {key}=, or drop it with ~{place}"
    raise ConfigError(place, spec[other], reason)


def locate(path: str, key: str) -> Callable[..., Any]:
    """The class or function at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(_join(key, TARGET), path, f"cannot be imported ({error})") from error
    if not callable(target):
        raise ConfigError(_join(key, TARGET), path, "not a class or function")
    return target  # type: ignore[no-any-return]


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
    mistakes = Mistakes()
    names = set(named) - set(given)
    for name in arguments:
        if name not in named and not open_ended:
            reason = f"no such key{did_you_mean(name, names)}"
            mistakes.add(ConfigError(_join(key, name), NOT_GIVEN, reason, listed(names)))
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in arguments and name not in given and not partial:
            mistakes.add(ConfigError(_join(key, name), reason="is required and was not given"))
    checked = {}
    for name, value in arguments.items():
        if name in named or open_ended:
            with mistakes.collect():
                annotation = named[name].annotation if name in named else Any
                checked[name] = _convert(value, annotation, _join(key, name))
    mistakes.check()
    return checked


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The signature's parameters; a type written in C may have none to read, and then takes whatever it is given."""
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:  # annotations that only a type checker can resolve
        return inspect.signature(target).parameters
    except ValueError:
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


def _build_nested(value: Any, key: str) -> Any:
    if isinstance(value, Mapping) and TARGET in value:
        return build(value, key)
    if isinstance(value, list):
        return [_build_nested(item, f"{key}[{i}]") for i, item in enumerate(value)]
    return value


def _convert(value: Any, annotation: Any, key: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(key, value, "should be a finite number")
    if annotation is inspect.Parameter.empty or annotation is Any:
        return value
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        told_by = {"Field required": "has too few values"}
        messages = (e["msg"].removeprefix("Value error, ") for e in error.errors())
        reasons = list(dict.fromkeys(told_by.get(message, message) for message in messages))
        # Of "a number or a Tensor" a config can only give the number.
        told = [reason for reason in reasons if "an instance of" not in reason] or reasons
        text = "; ".join(reason.replace("Input should", "should") for reason in told)
        raise ConfigError(key, value, text) from error


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            return TypeAdapter(Any)
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, NameError, TypeError):  # a third party's annotation: nothing to check
        return TypeAdapter(Any)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
