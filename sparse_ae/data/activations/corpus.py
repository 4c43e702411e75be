"""Text of the user's own: .txt files and .jsonl files, and the documents in them. Imports no torch."""

import codecs
import glob
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sparse_ae.config.errors import ConfigError, did_you_mean, listed
from sparse_ae.data.files import files_below, natural_order

FORMATS = (".txt", ".jsonl")

LONGEST = 2**18
"""Number of characters of the longest piece."""

Piece = tuple[int, str]
"""Number of a document, from 0, and the next part of its text."""


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
    found = {file for place in places for file in (files_below(place) if place.is_dir() else [place])}
    files = sorted((file for file in found if file.suffix.lower() in FORMATS), key=lambda f: natural_order(str(f)))
    if not files:
        reason = f"unknown file type {place.suffix}" if place.is_file() else "no text files"
        raise ConfigError("text", text, reason, f"{listed(FORMATS)} files, or folders of them")
    return files


def pieces(files: Sequence[Path], field: str, tell: Callable[[int], object] = lambda n: None) -> Iterator[Piece]:
    """Yield the documents of ``files``: a .txt file is one, and each line of a .jsonl file, under the key ``field``.

    A long document comes in pieces of at most ``LONGEST`` characters, and a .txt file is read in as much memory. They
    end before a space between letters, where tokenisers end a token; without one after a line, or anywhere. ``tell`` is
    given the number of bytes read since. Raises ``ConfigError`` for what is no text in UTF-8, and for a line without
    the field.
    """
    number = 0
    for file in files:
        if file.suffix.lower() == ".txt":
            yield from ((number, text) for text in _in_pieces(_decoded(file, tell)))
            number += 1
            continue
        with file.open("rb") as lines:
            for i, line in enumerate(lines, start=1):
                tell(len(line))
                if line.strip():
                    text = _document(line, field, file, f" in line {i}")
                    yield from ((number, piece) for piece in _in_pieces([text]))
                    number += 1


def _in_pieces(parts: Iterable[str]) -> Iterator[str]:
    """Cut the text of which there are ``parts`` anew; an empty one is one empty piece."""
    text = ""
    for part in parts:
        text += part
        begin = 0
        while len(text) - begin > LONGEST:
            end = _end(text, begin)
            yield text[begin:end]
            begin = end
        text = text[begin:]
    yield text


def _end(text: str, begin: int) -> int:
    """End of the piece that begins at ``begin`` in a longer text, in the second half of ``LONGEST`` characters."""
    half, last = begin + LONGEST // 2, begin + LONGEST
    place = last
    while (place := text.rfind(" ", half, place)) > 0:
        if text[place - 1].isalpha() and text[place + 1].isalpha():
            return place
    return text.rfind("\n", half, last) + 1 or last


def _document(line: bytes, field: str, file: Path, place: str) -> str:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(file, place, error.start) from error
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
    lone = re.search("[\ud800-\udfff]", entry[field])  # half of a pair, which JSON can escape
    if lone is not None:
        reason = f"no text in UTF-8{place} (\\u{ord(lone[0]):x} is no character)"
        raise ConfigError("text", str(file), reason, "text in UTF-8")
    return str(entry[field])


def _decoded(file: Path, tell: Callable[[int], object]) -> Iterator[str]:
    """Yield the text of a file in parts, without a byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as stream:
        read = len(codecs.BOM_UTF8) if stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        stream.seek(read)
        tell(read)
        content = None
        while content != b"":
            content = stream.read(LONGEST)
            tell(len(content))
            waiting = len(decoder.getstate()[0])
            try:
                yield decoder.decode(content, final=not content)
            except UnicodeDecodeError as error:
                raise _no_text(file, "", read - waiting + error.start) from error
            read += len(content)


def _no_text(file: Path, place: str, byte: int) -> ConfigError:
    return ConfigError("text", str(file), f"no text in UTF-8{place} (byte {byte})", "text in UTF-8")
