"""Overrides as typed on a command line or given in YAML: read, split into axes, and written."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Transformer
from hydra.errors import HydraException, OverrideParseException

from sparse_ae.config.errors import ConfigError, Mistakes
from sparse_ae.data.content import FILES

_OF_THE_SWEEP = ("fail_fast", "hydra", "rerun", "threads")
"""Sections that belong to a sweep as a whole and not to one of its runs."""
_TEXTS = (
    *("run", "coder.run", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"),
    *(f"data.{key}" for key in ("root", "key", *FILES)),
)
"""Keys whose value is a text, also where it looks like a number: ``run=2024``."""

_PLAIN = re.compile(r"(?:\$\{[^{}]*\}|[^,()\[\]{}'\"\\])+")
"""A value that can only be a text: no list, call, escape or quotes; it may hold interpolations."""
_BARE = re.compile(r"(?:\.{0,2}/)?[A-Za-z_][A-Za-z0-9_./-]*")
"""A text that means itself in Hydra's grammar, unless it is one of ``_WORDS``."""
_WORDS = ("null", "true", "false", "inf", "nan")
_OPENS_INTERPOLATION = re.compile(r"(\\*)\$\{")


def read(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra's grammar has them: values that it refuses and that are plain are quoted.

    A folder's name may so hold ``=``, ``#`` or letters beyond ASCII, and begin with ``~/``. What is not plain stays as
    it is, for ``parse`` to refuse.

    >>> read(["run=out/lr=0.1", "seed=1,2", "resume=a=1/last.ckpt,b=2/last.ckpt", "a=[b=1]"])
    ['run="out/lr=0.1"', 'seed=1,2', 'resume="a=1/last.ckpt","b=2/last.ckpt"', 'a=[b=1]']
    """
    return [_read(text) for text in overrides]


def literal(text: str) -> str:
    """``key=value`` with the value quoted whole, unless it is a text already: for a key that takes nothing else.

    >>> literal("run=out/a=1,b=2"), literal("run='a b'"), literal("run=out/a")
    ('run="out/a=1,b=2"', "run='a b'", 'run=out/a')
    """
    override = _parsed(text)
    return text if override is not None and isinstance(override.value(), str) else _quoted(text)


def parse(overrides: Iterable[str]) -> list[Override]:
    """Parsed overrides. Raises ``ConfigError`` for every one that is not valid."""
    mistakes = Mistakes()
    parsed = []
    for text in overrides:
        override = _parsed(text)
        if override is None:
            mistakes.add(ConfigError(text, reason="not a valid override", expected=_valid(text)))
        else:
            parsed.append(override)
    mistakes.check()
    return parsed


def axes(overrides: Iterable[str]) -> dict[str, list[str]]:
    """The values of each key as overrides of it; a plain override is an axis with one value."""
    return {override.get_key_element(): _values(override) for override in parse(overrides)}


def axes_of(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """``axes`` of a mapping from YAML: a text is read as on a command line, and a list holds an axis' values.

    >>> axes_of({"a": "1,2", "b": [None, [256], "1,2"], "c": None})
    {'a': ['a=1', 'a=2'], 'b': ['b=null', 'b=[256]', 'b="1,2"'], 'c': ['c=null']}

    Raises ``ConfigError`` for a text that is not valid, a list without values, and what belongs to the whole sweep.
    """
    found: dict[str, list[str]] = {}
    for key, value in values.items():
        check_of_a_run(key, value)
        if isinstance(value, str):
            found |= axes(read([f"{key}={value}"]))
        elif isinstance(value, list):
            if not value:
                raise ConfigError(key, "[]", "an axis without values", "a list of values, or [[]] for an empty list")
            found[key] = [override for item in value for override in written({key: item})]
        else:
            found[key] = written({key: value})
        if _section(key) in _OF_THE_SWEEP and len(found[key]) > 1:
            raise ConfigError(key, value, "a sweep has one value of it")
    return found


def check_of_a_run(key: str, value: Any) -> None:
    """Raise ``ConfigError`` for an axis of the sweeper's config, ``key``, that is a setting of Hydra's."""
    if _section(key) == "hydra":
        raise ConfigError(key, value, "is of the sweep and not of its runs", "a key outside of the sweeper's axes")


def is_of_the_sweep(key: str) -> bool:
    """True for a key, or a choice of folders, that belongs to a sweep as a whole and not to one of its runs."""
    return _section(key) in (*_OF_THE_SWEEP, "experiment")


def fixed(overrides: Sequence[str]) -> list[str]:
    """Overrides that the settings of a sweep itself are composed from: those of Hydra, and of whole options.

    ``sparsity.k=16`` is not among them: it may suit every option of an axis and not the default one.

    Raises ``ConfigError`` for several values of a key that belongs to the whole sweep.
    """
    single = []
    for typed, override in {override.get_key_element(): override for override in parse(overrides)}.items():
        key, values = typed.lstrip("+~"), [] if _is_interval(override) else _values(override)
        if len(values) == 1:
            single += values if key.startswith("hydra") or "." not in key else []
        elif _section(key) in _OF_THE_SWEEP:
            text = one_text(override)
            expected = f"one value, as in {for_shell(key, text)}" if key in _TEXTS else ""
            raise ConfigError(key, text, "a sweep has one value of it", expected)
    return single


def one_text(override: Override) -> str:
    """The value of an override as it was typed, where it was taken for several and meant as one text."""
    return re.sub(r'"([^"\\]*)"', r"\1", (override.input_line or "").partition("=")[2])


def of_runs(overrides: Iterable[str]) -> list[str]:
    """Overrides of the runs' own config, without those of Hydra's."""
    return [text for text in overrides if not text.lstrip("+~").startswith(("hydra.", "hydra/"))]


def of_data(overrides: Iterable[str]) -> list[str]:
    """Overrides that choose the data: those of ``data``, and an experiment.

    >>> of_data(["data=arrays", "data.path=x.npy", "experiment=grid", "seed=1", "+data.shift=1"])
    ['data=arrays', 'data.path=x.npy', 'experiment=grid', '+data.shift=1']
    """
    return [text for text in overrides if re.match(r"[+~]*(data[.@=]|experiment=)", text)]


def written(values: Mapping[str, Any]) -> list[str]:
    """Each key and value as an override that means just this value: the way back from a config to a command line.

    >>> written({"a": None, "b": [True, "x, y"], "c": {"d": "1"}, "run": "outputs/default"})
    ['a=null', 'b=[true,"x, y"]', 'c={d:"1"}', 'run=outputs/default']

    Raises ``ConfigError`` for a mapping with a key that Hydra's grammar cannot write, such as one with quotes.
    """
    return [f"{key}={_written(value, key)}" for key, value in values.items()]


def for_shell(key: str, value: str | Path) -> str:
    """``key=value`` as it is to be typed in a shell."""
    return shlex.join(written({key: value}))


def _section(key: str) -> str:
    """``hydra`` of ``hydra.sweep.dir`` and ``hydra/launcher``."""
    return re.split(r"[./]", key.lstrip("+~"))[0]


def _parsed(text: str) -> Override | None:
    """The override, or None if it is not valid."""
    hydra = GlobalHydra.instance()
    loader = hydra.config_loader() if hydra.is_initialized() else None  # for glob(*), which lists a group
    try:
        (override,) = OverridesParser.create(loader).parse_overrides([text])
    except OverrideParseException:
        return None
    assert isinstance(override, Override)
    return override


def _read(text: str) -> str:
    key, equals, value = text.partition("=")
    override = _parsed(text)
    if override is None:
        parts = [_part(key, part) for part in value.split(",")]
        return f"{key}={','.join(map(str, parts))}" if equals and None not in parts else text
    if key.lstrip("+") in _TEXTS and isinstance(override.value(), bool | int | float):
        return _quoted(text)
    return text


def _part(key: str, value: str) -> str | None:
    """One value of ``key``, quoted if that is what it lacks; None if it is not valid."""
    if _parsed(f"{key}={value}") is not None:
        return value
    if not _PLAIN.fullmatch(value) or _parsed(f"{key}=") is None:
        return None
    text = value.strip()
    return value.replace(text, _in_quotes(_below_home(text)))


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    return f"{key}={_in_quotes(_below_home(value))}"


def _below_home(name: str) -> str:
    """``name`` with ~ expanded, which shells do after some ``key=`` and not after others."""
    return str(Path.home() / name[2:]) if name.startswith("~/") or name == "~" else name


def _valid(text: str) -> str:
    """Expected form of an override like ``text``."""
    if _parsed(f"{text.partition('=')[0]}=") is None or "=" not in text:
        return "key=value or group=option"
    return f"key=value or group=option; a text is written {shlex.quote(_quoted(text))}"


def _values(override: Override) -> list[str]:
    text = override.input_line or override.get_key_element()
    if not override.is_sweep_override():
        return [text]
    if _is_interval(override):
        expected = "a,b,c, choice(a,b,c) or range(1,4); hydra/sweeper=search takes intervals"
        raise ConfigError(text, reason="not a list of values", expected=expected)
    return [f"{override.get_key_element()}={value}" for value in override.sweep_iterator(_swept)]


def _is_interval(override: Override) -> bool:
    return override.is_sweep_override() and not override.is_discrete_sweep()


def _swept(value: Any) -> str:
    """One value of an axis as Hydra writes it, and true and false as people do; interpolations stay what they are."""
    return str(value).lower() if isinstance(value, bool) else str(Transformer.str(value))


def _written(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        pairs = (f"{_written_key(name, key)}:{_written(item, key)}" for name, item in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(_written(item, key) for item in value)}]"
    if isinstance(value, str | os.PathLike):
        return _written_text(str(value))
    return repr(value)


def _written_text(text: str) -> str:
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # In a config "${" interpolates, and a backslash takes that from it.
    return _in_quotes(_OPENS_INTERPOLATION.sub(r"\1\1\\${", text))


def _in_quotes(text: str) -> str:
    return str(QuotedString(text, Quote.double).with_quotes())


def _written_key(name: Any, key: str) -> str:
    """A key of a mapping, which the grammar cannot quote."""
    text = re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", name) if isinstance(name, str) else _written(name, key)
    try:
        parsed = OverridesParser.create().parse_rule(f"{{{text}:0}}", "dictContainer")
    except HydraException:
        parsed = None
    if parsed != {name: 0}:
        raise ConfigError(key, {name: "..."}, f"Hydra's grammar has no way to write the key {name!r}")
    return text
