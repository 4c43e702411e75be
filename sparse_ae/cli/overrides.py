"""Overrides as typed on a command line: parsed, split into axes, and written."""

from collections.abc import Iterable, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import OverrideParseException

from sparse_ae.config.errors import ConfigError, Mistakes

_OF_THE_SWEEP = ("hydra", "rerun", "threads")
"""Sections that belong to a sweep as a whole and not to one of its runs."""


def parse(overrides: Iterable[str]) -> list[Override]:
    """Parsed overrides. Raises ``ConfigError`` for every one that is not valid."""
    parser = OverridesParser.create()
    mistakes = Mistakes()
    parsed = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except OverrideParseException:
            mistakes.add(ConfigError(text, reason="not a valid override", expected="key=value or group=option"))
    mistakes.check()
    return parsed


def axes(overrides: Iterable[str]) -> dict[str, list[str]]:
    """The values of each key as overrides of it; a plain override is an axis with one value."""
    return {override.get_key_element(): _values(override) for override in parse(overrides)}


def fixed(overrides: Sequence[str]) -> list[str]:
    """Overrides that the settings of a sweep itself are composed from: those of Hydra, and of whole options.

    ``sparsity.k=16`` is not among them: it may suit every option of an axis and not the default one.

    Raises ``ConfigError`` for several values of a key that belongs to the whole sweep.
    """
    single = []
    for typed, values in axes(overrides).items():
        key = typed.lstrip("+~")
        if len(values) == 1:
            single += values if key.startswith("hydra") or "." not in key else []
        elif key.split(".")[0].split("/")[0] in _OF_THE_SWEEP:
            given = ", ".join(value.split("=", 1)[1] for value in values)
            raise ConfigError(key, given, "a sweep has one value of it")
    return single


def of_runs(overrides: Iterable[str]) -> list[str]:
    """Overrides of the runs' own config, without those of Hydra's."""
    return [text for text in overrides if not text.lstrip("+~").startswith(("hydra.", "hydra/"))]


def written(values: Mapping[str, object]) -> list[str]:
    """Each key and value as an override, the value quoted whatever characters it has."""
    return [f"{key}={QuotedString(str(value), Quote.single).with_quotes()}" for key, value in values.items()]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if not override.is_discrete_sweep():
        text = override.input_line or override.get_key_element()
        raise ConfigError(text, reason="not a list of values", expected="a,b,c, choice(a,b,c) or range(1,4)")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
