"""Ranges that a search chooses from, in Hydra's grammar: intervals, whole numbers, values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from sparse_ae.cli.overrides import axes, axes_of, check_of_a_run, is_of_the_sweep, parse, read, written
from sparse_ae.config.errors import ConfigError, Mistakes

_LOG = "log"


class Numbers(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; whole ones if both are of type int."""

    low: float
    """Smallest number."""
    high: float
    """Largest number."""
    step: float | None = None
    """Distance between two numbers; None for any."""
    log: bool = False
    """True for a logarithmic scale."""


class Choices(NamedTuple):
    """Single values, as overrides have them."""

    values: tuple[str, ...]
    """Values in the order given, none twice."""


Range = Numbers | Choices


class Space(NamedTuple):
    """Overrides of every trial of a search, and the ranges that it chooses the others from."""

    fixed: list[str]
    """Overrides with one value."""
    ranges: dict[str, Range]
    """Range of each other key."""

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial with ``params``: a number, or one of the texts of ``Choices``, for each key."""
        return [*self.fixed, *self.own(params)]

    def own(self, params: Mapping[str, Any]) -> list[str]:
        """Overrides that tell a trial with ``params`` from the others."""
        numbers = written({key: params[key] for key, found in self.ranges.items() if isinstance(found, Numbers)})
        texts = iter(numbers)
        return [next(texts) if isinstance(r, Numbers) else f"{key}={params[key]}" for key, r in self.ranges.items()]


def space(params: Mapping[str, Any], arguments: Sequence[str]) -> Space:
    """The search space of a sweeper's ``params``, as ``axes_of`` has them, and of ``arguments``, which replace them.

    >>> space({"model.latent_dim": "range(16,65,16)"}, ["seed=1", "sparsity=l1,kl"]).ranges
    {'model.latent_dim': Numbers(low=16, high=64, step=16, log=False), 'sparsity': Choices(values=('l1', 'kl'))}
    >>> space({}, ["sparsity.coefficient=tag(log, interval(1e-4, 1))"]).ranges
    {'sparsity.coefficient': Numbers(low=0.0001, high=1.0, step=None, log=True)}

    Raises ``ConfigError`` for every range that is none, and if there is no range at all.
    """
    found: dict[str, list[str] | Range] = {}
    mistakes = Mistakes()
    for key, value in params.items():
        with mistakes.collect():
            check_of_a_run(key, value)
            if isinstance(value, str):
                (text,) = read([f"{key}={value}"])
                found[key] = _range(text)
            else:
                found |= axes_of({key: value})
    for text in arguments:
        with mistakes.collect():
            found[parse([text])[0].get_key_element()] = _range(text)
    mistakes.check()
    lists = {key: list(dict.fromkeys(values)) for key, values in found.items() if isinstance(values, list)}
    fixed = [values[0] for values in lists.values() if len(values) == 1]
    ranges: dict[str, Range] = {}
    for key, values in found.items():
        if not isinstance(values, list):
            ranges[key] = values
        elif len(lists[key]) > 1:
            ranges[key] = Choices(tuple(text.partition("=")[2] for text in lists[key]))
    for key in ranges:
        if is_of_the_sweep(key):
            mistakes.add(ConfigError(key, reason="a search has one value of it"))
    mistakes.check()
    if not ranges:
        reason = "a search chooses from ranges, and there is none"
        raise ConfigError("hydra/sweeper", "search", reason, "a range such as 'sparsity.coefficient=interval(1e-4,1)'")
    return Space(fixed, ranges)


def _range(text: str) -> Range | list[str]:
    """The numbers of one override, or the overrides that it stands for."""
    (override,) = parse([text])
    key, value = override.get_key_element(), override.value()
    tags: set[str] = getattr(value, "tags", set())
    if unknown := sorted(tags - {_LOG}):
        raise ConfigError(key, _typed(override), f"no such tag: {', '.join(unknown)}", "tag(log, interval(1e-4,1))")
    log = _LOG in tags
    if isinstance(value, IntervalSweep):
        low, high = value.start or 0, value.end or 0
        return _checked(override, Numbers(low, high, 1 if _whole(low, high) else None, log))
    if isinstance(value, RangeSweep):
        start, stop, step = value.start or 0, value.stop or 0, value.step
        number = math.ceil(round((stop - start) / step, 9)) if step else 0  # without its stop, as in a grid
        last = start + (number - 1) * step if number > 0 else start - 1
        if not _whole(start, step):
            start, last = float(start), round(float(last), 12)
        return _checked(override, Numbers(start, last, step, log))
    if log:
        raise ConfigError(key, _typed(override), "single values have no scale", "tag(log, interval(1e-4,1))")
    return axes([text])[key]


def _whole(*numbers: Any) -> bool:
    return all(isinstance(number, int) for number in numbers)


def _typed(override: Override) -> str:
    return (override.input_line or "").partition("=")[2]


def _checked(override: Override, numbers: Numbers) -> Numbers:
    key, typed = override.get_key_element(), _typed(override)
    low, high, step, log = numbers
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(key, typed, "its ends should be finite numbers")
    if low > high or (step is not None and step <= 0):
        raise ConfigError(key, typed, "holds no number", "the smaller end first")
    if log and low <= 0:
        raise ConfigError(key, typed, "a logarithmic scale has no 0", "a lower end above 0")
    if log and step not in (None, 1):
        raise ConfigError(key, typed, f"a logarithmic scale has no steps of {step:g}", "whole numbers, or an interval")
    return numbers
