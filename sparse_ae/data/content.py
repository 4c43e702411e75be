"""Identity of data: a digest of the contents of files, cached beside their size and time. Imports no torch."""

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from sparse_ae.atomic import write_atomically
from sparse_ae.config.errors import UserError
from sparse_ae.data.files import data_files, data_root, names_file, picture_class, picture_files, placed

FILES = ("path", "val_path", "test_path", "labels", "val_labels", "test_labels", "split_by")
"""Options of ``data`` that name a file, a folder, or an array of the file that ``path`` names."""

_CACHE_FORMAT = "1"
_LENGTH = 16  # bytes kept of a SHA-256, which processors compute in hardware
_PIECE = 64 * 2**20  # bytes hashed in one thread
_BUFFER = 2**20
_LONG = 10**9  # bytes that take long enough to tell
_TICK_NS = 2 * 10**9  # steps of the coarsest clock that a file system has, FAT's


class _Version(NamedTuple):
    """State of a file by which an unchanged one is recognised."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def identity(
    options: Mapping[str, Any], tell: Callable[[str], object] | None = None, *, pictures: bool = False
) -> str | None:
    """Return 16 hexadecimal digits that identify the files which ``options`` of ``data`` name; None if there are none.

    What is no file is taken as the name of an array. With ``pictures``, folders hold pictures, and their subfolders
    count as classes. Raises ``ConfigError`` for a file that cannot be read.
    """
    parts: dict[str, Any] = {}
    for option in FILES:
        place = options.get(option)
        if place is None:
            continue
        if pictures:
            files = picture_files(place, path_option=f"data.{option}")
            parts[option] = [digest(files, tell), [picture_class(file, place) for file in files]]
        elif option.endswith("path") or names_file(place):
            files = data_files(place, path_option=f"data.{option}")
            parts[option] = digest(files, tell)
        else:
            parts[option] = f"array {place}"
    return _hash(json.dumps(parts).encode()).hex()[:16] if parts else None


def with_absolute_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``options`` of ``data`` with the absolute paths of the files that they name, to be found from anywhere."""
    given = {option: place for option in FILES if isinstance(place := options.get(option), str)}
    files = {option: place for option, place in given.items() if option.endswith("path") or names_file(place)}
    # Of a language model: a pattern of texts, and a model that is a folder and not a name.
    if isinstance(text := options.get("text"), str):
        files["text"] = text
    if isinstance(model := options.get("model"), str) and Path(model).expanduser().is_dir():
        files["model"] = model
    return {**options, **{option: str(placed(place)) for option, place in files.items()}}


def digest(files: Iterable[str | Path], tell: Callable[[str], object] | None = None) -> str:
    """Return a digest of the contents of ``files`` in this order, 32 hexadecimal digits.

    Names, places and times of the files do not count. Digests are cached in the folder ``digests`` of ``data_root()``;
    a file of another size, time or inode is hashed again. ``tell`` is given a line before more than 1 GB is hashed.
    Raises ``OSError`` for a file that cannot be read, ``UserError`` for one that changes meanwhile.
    """
    paths = [Path(file).absolute() for file in files]
    names = "\0".join([_CACHE_FORMAT, *map(str, paths)]).encode(errors="surrogateescape")
    entry = data_root() / "digests" / f"{_hash(names).hex()}.json"
    known = _read(entry)
    begun = time.time_ns()
    versions = [_version(path.stat()) for path in paths]
    unknown = [(path, version) for path, version in zip(paths, versions, strict=True) if version not in known]
    size = sum(version.size for _, version in unknown)
    if size > _LONG and tell is not None:
        tell(f"reading {size / 1e9:.1f} GB of data to identify them, once")
    known |= zip([version for _, version in unknown], _hash_files(unknown), strict=True)
    if unknown:
        # A file written just now may be written again within the same tick of its clock: its time would not tell.
        _write(entry, {version: known[version] for version in versions if version.mtime_ns + _TICK_NS < begun})
    return _hash("".join(known[version] for version in versions).encode()).hex()


def _hash_files(files: Sequence[tuple[Path, _Version]]) -> list[str]:
    """Return the digest of each file, from the digests of its pieces, which are hashed in threads."""
    starts = [range(0, version.size, _PIECE) for _, version in files]
    pieces = [(path, start) for (path, _), own in zip(files, starts, strict=True) for start in own]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        hashes = iter(list(threads.map(_hash_piece, pieces)))
    for path, version in files:
        if _version(path.stat()) != version:
            raise UserError(str(path), reason="has changed while it was read; repeat the command")
    return [_hash(b"".join(itertools.islice(hashes, len(own)))).hex() for own in starts]


def _hash_piece(piece: tuple[Path, int]) -> bytes:
    path, start = piece
    state = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    with path.open("rb", buffering=0) as stream:
        stream.seek(start)
        left = _PIECE
        while left and (count := stream.readinto(buffer[:left])):
            state.update(buffer[:count])
            left -= count
    return state.digest()[:_LENGTH]


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_LENGTH]


def _version(status: os.stat_result) -> _Version:
    return _Version(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read(entry: Path) -> dict[_Version, str]:
    """Read the digests of an entry of the cache; none from a missing or damaged one."""
    try:
        check, _, content = entry.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if check != _hash(content).hex().encode():
        return {}
    return {_Version(*version): digest for version, digest in json.loads(content)}


def _write(entry: Path, known: dict[_Version, str]) -> None:
    """Write an entry of the cache, if it can be written: without it, only time is lost."""
    content = json.dumps(list(known.items())).encode()
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(entry, _hash(content).hex().encode() + b"\n", content)
