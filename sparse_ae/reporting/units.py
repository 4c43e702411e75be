"""Page of a run's units in text: to be searched by token, sorted, and opened for their contexts.

Its data are what an analysis has written. Text is of unknown origin: it is data of a script, which puts it into the
page as text, and a policy lets no other script run and nothing be fetched.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sparse_ae.reporting.render import TEMPLATES, render
from sparse_ae.runs.directory import Run

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


def _page(run: str, variant: str, data: dict[str, Any]) -> str:
    script = (TEMPLATES / "units.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = f"Units of {run} ({variant})" if variant else f"Units of {run}"
    numbers = {name: data[name] for name in _NUMBERS}
    listed = len(data["units"])
    return render("units.html", title=title, digest=digest, script=Markup(script), data=data, listed=listed, **numbers)


def _read(file: Path) -> dict[str, Any] | None:
    """Data of the page; None if there are none, or damaged ones."""
    try:
        data = json.loads(file.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    is_whole = isinstance(data, dict) and isinstance(data.get("units"), list) and isinstance(data.get("pieces"), list)
    return data if is_whole and all(isinstance(data.get(name), int) for name in _NUMBERS) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
