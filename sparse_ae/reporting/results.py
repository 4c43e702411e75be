"""Results of an analysis as a page shows them: single values, and nested values as tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparse_ae.reporting.columns import as_number

_LONGEST = 20
"""Length of the longest list that is shown."""


class Table(NamedTuple):
    """A nested result of an analysis."""

    corner: str
    """Name of all rows; empty if there is a single one."""
    columns: list[str]
    """Names of the columns."""
    rows: list[tuple[str, list[str]]]
    """Name and cells of each row."""


def value_text(value: Any) -> str:
    """Return a number with six digits, a boolean as yes or no, None as undefined, and all else as it is."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if as_number(value) is None else f"{value:.6g}"


def text_of(value: Any) -> str | None:
    """Return a single value, or a short list of single values, as text; None for anything else."""
    if isinstance(value, list) and len(value) <= _LONGEST and not any(isinstance(each, dict | list) for each in value):
        return ", ".join(map(value_text, value)) or "none"
    return None if isinstance(value, dict | list) else value_text(value)


def table_of(name: str, value: Any) -> Table | None:
    """Return ``{column: value}`` as one row, and ``{row: {column: value}}`` or a short list of rows as a row each.

    Deeper levels are left out. None if nothing is left.
    """
    if isinstance(value, list) and len(value) <= _LONGEST and all(isinstance(row, dict) for row in value):
        value = {str(number): row for number, row in enumerate(value, start=1)}
    if not isinstance(value, dict):
        return None
    nested = all(isinstance(row, dict) for row in value.values())
    rows = {key: _texts(row) for key, row in (value if nested else {name: value}).items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if not columns:
        return None
    cells = [(key, [row.get(column, "") for column in columns]) for key, row in rows.items()]
    return Table(name if nested else "", columns, cells)


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {column: text for column, value in row.items() if (text := text_of(value)) is not None}
