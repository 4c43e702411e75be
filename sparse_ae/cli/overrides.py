"""The runs of a sweep, each as a list of overrides."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from sparse_ae.config.errors import ConfigError

_OF_THE_SWEEP = ("hydra", "rerun", "threads")
"""What is no property of a run."""

IsGroup = Callable[[str], bool]


def expand(
    params: Mapping[str, Any], grids: Sequence[Mapping[str, Any]], arguments: Sequence[str], is_group: IsGroup
) -> list[list[str]]:
    """Every combination of ``params`` and ``arguments``, for each of ``grids``, in the order given, none twice.

    An argument replaces the axis of its key wherever there is one. A grid that stands for other options of a config
    group than the arguments ask for (``sparsity: kl``, where ``sparsity=l1`` is asked for) is left out, unless that
    leaves none. Raises ``ConfigError`` for what cannot be parsed or is no list of values.
    """
    asked = axes(arguments)
    kept = [grid for grid in grids if not _contradicts(axes(_overrides(grid)), asked, is_group)]
    jobs = []
    for grid in kept or grids or [{}]:
        crossed = {**axes(_overrides(params)), **axes(_overrides(grid)), **asked}
        jobs += [list(job) for job in itertools.product(*crossed.values())]
    return [list(job) for job in dict.fromkeys(map(tuple, jobs))]


def without_sweeps(arguments: Sequence[str]) -> list[str]:
    """The arguments that name one value: what Hydra composes a sweep's own settings from. Raises ``ConfigError`` for
    several values of these.
    """
    single = []
    for key, values in axes(arguments).items():
        if len(values) == 1:
            single += values
        elif key.split(".")[0].split("/")[0] in _OF_THE_SWEEP:
            raise ConfigError(f"{key}: a sweep has one (given: {', '.join(v.split('=', 1)[1] for v in values)})")
    return single


def _overrides(values: Mapping[str, Any]) -> list[str]:
    """A list is an axis, as text with commas is."""
    return [f"{key}={','.join(map(str, v)) if OmegaConf.is_list(v) else v}" for key, v in values.items()]


def axes(overrides: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key as overrides of it, a plain override being an axis with one value."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(f"{error.override}: is no override (allowed: key=value, group=option)") from error
    return {override.get_key_element(): _values(override) for override in parsed}


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: is no list of values (allowed: a,b,c, choice(a,b,c) or range(1,4))")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _contradicts(grid: Mapping[str, list[str]], asked: Mapping[str, list[str]], is_group: IsGroup) -> bool:
    return any(is_group(key) and not set(values) & set(asked[key]) for key, values in grid.items() if key in asked)
