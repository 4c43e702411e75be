"""Mistakes of users, as exceptions with fields, and the one formatter that writes them as a line.

A constructor raises ``ConfigError("k", k, "not a number of units", "1 to model.latent_dim=128")`` with the name of its
own parameter; ``config.build`` puts the config key in front. A key with a dot, or one that is no parameter of the
constructor, stays as it is.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class _NotGiven:
    def __repr__(self) -> str:
        return "NOT_GIVEN"

    def __reduce__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN = _NotGiven()
"""Value of an error that is about no particular value."""


class UserError(ValueError):
    """A mistake that its user can correct: ``key=value: reason (expected ...)``, one line."""

    def __init__(self, key: str, value: Any = NOT_GIVEN, reason: str = "", expected: str = "") -> None:
        """``key`` names an option, a file or a folder. ``reason`` is a clause, with advice after a semicolon;
        ``expected`` completes "(expected ...)" and may be empty.
        """
        super().__init__(key, value, reason, expected)
        self.key = key
        self.value = value
        self.reason = " ".join(reason.split())
        self.expected = expected

    def __str__(self) -> str:
        place = self.key if self.value is NOT_GIVEN else f"{self.key}={_as_typed(self.value)}"
        text = f"{place}: {self.reason}" if place else self.reason
        return f"{text} (expected {self.expected})" if self.expected else text


class ConfigError(UserError):
    """A mistake in the configuration or on the command line."""

    @property
    def errors(self) -> tuple["ConfigError", ...]:
        """Every mistake that this exception reports."""
        return (self,)

    def under(self, prefix: str) -> "ConfigError":
        """This mistake with its key below ``prefix``."""
        key = f"{prefix}.{self.key}" if self.key else prefix
        return type(self)(key, self.value, self.reason, self.expected)


class ConfigErrors(ConfigError):
    """Several mistakes at once, a line each."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self._errors = tuple(errors)
        super().__init__("", reason="; ".join(map(str, self._errors)))
        self.args = (self._errors,)

    def __str__(self) -> str:
        return "\n".join(map(str, self._errors))

    @property
    def errors(self) -> tuple[ConfigError, ...]:
        return self._errors

    def under(self, prefix: str) -> "ConfigErrors":
        return ConfigErrors(error.under(prefix) for error in self._errors)


class Mistakes:
    """The mistakes of parts that are checked one by one, to be raised together."""

    def __init__(self) -> None:
        self.found: dict[str, ConfigError] = {}

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Note a ``ConfigError`` of the block instead of raising it; a line that was noted before is not repeated."""
        try:
            yield
        except ConfigError as error:
            self.add(*error.errors)

    def add(self, *errors: ConfigError) -> None:
        """Note ``errors``."""
        for error in errors:
            self.found.setdefault(str(error), error)

    def check(self) -> None:
        """Raise what was noted: a ``ConfigError``, or ``ConfigErrors`` if there are several."""
        if len(self.found) > 1:
            raise ConfigErrors(self.found.values())
        for error in self.found.values():
            raise error


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``; did you mean rho?`` if one of ``names`` is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5 if len(name) < 4 else 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _as_typed(value: Any) -> str:
    """``value`` as a command line or YAML has it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed(names: Iterable[str]) -> str:
    """``a, b, c``: ``names`` in order, as the end of an error."""
    return ", ".join(sorted(names))


def is_user_error(error: BaseException) -> bool:
    """True if the user or the machine caused ``error``: a wrong option or file, divergence, a full disk or memory."""
    return isinstance(error, UserError | OSError | MemoryError)


def describe(error: BaseException) -> str:
    """One line about an error; one that is a bug is named with its type."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if is_user_error(error) else f"{type(error).__name__}: {text}"
