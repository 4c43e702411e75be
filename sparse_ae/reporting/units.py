"""Page of a run's units in text: to be searched by token, sorted, and opened for their contexts.

Its data are what an analysis has written. Text is of unknown origin: it is data of a script, which puts it into the
page as text, and a policy lets no other script run and nothing be fetched.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from sparse_ae.reporting.render import TEMPLATES, render
from sparse_ae.run.directory import Run

_DATA = "units.json"
_NUMBERS = ("rows", "all_units", "living_units", "contexts_per_unit")


def units_pages(run: Run) -> dict[str, str]:
    """Return ``units.html`` of the run's own weights, and pages of its variants such as ``units-best.html``, by name.

    Each shows what one analysis has found, the first by name; analyses with damaged data are passed over.
    """
    pages: dict[str, str] = {}
    for name in run.analyses:
        variant = name.partition("-")[2]
        page = f"units-{variant}.html" if variant else "units.html"
        if page not in pages and (data := _read(run.path / "analysis" / name / _DATA)) is not None:
            pages[page] = _page(run.path.name, variant, data)
    return pages


class _Data(NamedTuple):
    text: str
    """JSON as it was written."""
    numbers: dict[str, int]
    listed: int
    """Number of units in it."""


def _page(run: str, variant: str, data: _Data) -> str:
    script = (TEMPLATES / "units.js").read_text(encoding="utf-8")
    return render(
        "units.html",
        title=f"Units of {run} ({variant})" if variant else f"Units of {run}",
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        script=Markup(script),
        data=Markup(_in_script(data.text)),
        listed=data.listed,
        **data.numbers,
    )


def _in_script(text: str) -> str:
    """JSON in which no character can end a script: outside its strings, where an escape means the same, are none."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _read(file: Path) -> _Data | None:
    """Data of the page; None if there are none, or damaged ones."""
    try:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    is_whole = isinstance(data, dict) and isinstance(data.get("units"), list) and isinstance(data.get("pieces"), list)
    if not is_whole or not all(isinstance(data.get(name), int) for name in _NUMBERS):
        return None
    return _Data(text, {name: data[name] for name in _NUMBERS}, len(data["units"]))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
