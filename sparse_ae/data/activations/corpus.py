"""Text of the user's own: .txt files and .jsonl files, and the documents in them. Imports no torch."""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparse_ae.config.errors import ConfigError, did_you_mean, listed
from sparse_ae.data.files import natural_order

FORMATS = (".txt", ".jsonl")


def text_files(text: str) -> list[Path]:
    """Return the files of a text in natural order: of a file, of a folder and its subfolders, or of a glob pattern.

    Hidden files and those of other types are left out of folders. Raises ``ConfigError`` if there are none.
    """
    place = Path(text).expanduser()
    matches = glob.glob(str(place), recursive=True)  # noqa: PTH207 (Path.glob also finds hidden files)
    places = [place] if place.exists() else [Path(match) for match in matches]
    if not places:
        is_pattern = glob.has_magic(text)
        raise ConfigError("text", text, "matches no file" if is_pattern else "no such file or folder")
    found = {file for place in places for file in (_inside(place) if place.is_dir() else [place])}
    files = sorted((file for file in found if file.suffix.lower() in FORMATS), key=lambda f: natural_order(str(f)))
    if not files:
        reason = f"unknown file type {place.suffix}" if place.is_file() else "no text files"
        raise ConfigError("text", text, reason, f"{listed(FORMATS)} files, or folders of them")
    return files


def documents(files: Sequence[Path], field: str) -> Iterator[str]:
    """Yield the documents of ``files``: a .txt file is one, and each line of a .jsonl file, under the key ``field``.

    Raises ``ConfigError`` for what is no text in UTF-8, and for a line without the field.
    """
    for file in files:
        if file.suffix.lower() == ".txt":
            yield _decoded(file.read_bytes(), file, "")
            continue
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _document(line, field, file, f" in line {number}")


def _inside(folder: Path) -> list[Path]:
    names = [
        Path(inside).relative_to(folder) / name
        for inside, _, names in os.walk(folder, followlinks=True)
        for name in names
    ]
    return [folder / name for name in names if not any(part.startswith(".") for part in name.parts)]


def _document(line: bytes, field: str, file: Path, place: str) -> str:
    text = _decoded(line, file, place)
    try:
        entry: Any = json.loads(text)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise ConfigError("text", str(file), f"no JSON object{place}", "an object in each line")
    if field not in entry:
        reason = f"{file.name} has no such key{place}{did_you_mean(field, entry)}"
        raise ConfigError("field", field, reason, listed(entry))
    if not isinstance(entry[field], str):
        reason = f"{file.name} has a value of type {type(entry[field]).__name__} there{place}"
        raise ConfigError("field", field, reason, "the key of a text")
    return str(entry[field])


def _decoded(content: bytes, file: Path, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"no text in UTF-8{place} (byte {error.start})"
        raise ConfigError("text", str(file), reason, "text in UTF-8") from error
