"""Pages that need nothing else: one HTML file each, pictures included.

Whatever comes from a run's folder is escaped, and a page's own policy lets no script run but the one it is written
with: a folder that someone sent cannot act in the reader's browser.
"""

import base64
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sparse_ae.reporting.columns import as_number

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """A figure of one run."""

    name: str
    png: bytes


def render_page(template: str, *, script: str | None, **context: Any) -> str:
    """A template of this package with its style, and the one script that may run on it."""
    environment = Environment(
        loader=FunctionLoader(_own),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    code = "" if script is None else _own(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return environment.get_template(template).render(
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        style=Markup(_own("page.css")),
        script=Markup(code),
        script_hash=f"sha256-{digest}",
        **context,
    )


def pictures(paths: Iterable[Path]) -> list[Picture]:
    """Figures of analyses. What is no PNG is left out: a link by that name may lead to any file of the reader's."""
    found = []
    with suppress(OSError):  # a run that starts over removes all of them
        for path in paths:
            with suppress(OSError):  # a link that leads nowhere
                if not path.is_file():  # a pipe would be read for ever
                    continue
                png = path.read_bytes()
                if png.startswith(_PNG_SIGNATURE):
                    analysis = path.parent.name
                    found.append(Picture(analysis if path.stem == analysis else f"{analysis}: {path.stem}", png))
    return found


def value_text(value: Any) -> str:
    """A number with six digits, true and false as yes and no, what is undefined as that, all else as it is."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if as_number(value) is None else f"{value:.6g}"


def _own(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
