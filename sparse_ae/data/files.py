"""Files of a dataset: one file, the shards in a folder, or pictures in folders. Imports no torch."""

import functools
import os
import re
import stat
from pathlib import Path

from platformdirs import user_cache_path

from sparse_ae.config.errors import ConfigError, listed

FORMATS = {".npy": ".npy", ".npz": ".npz", ".safetensors": ".safetensors", ".pt": ".pt", ".pth": ".pt"}
"""Format of a file by the end of its name."""


def data_root(root: str | None = None) -> Path:
    """Return the folder of downloads and caches: ``root``, else ``$SPARSE_AE_DATA``, else a per-user cache."""
    return placed(root or os.environ.get("SPARSE_AE_DATA") or user_cache_path("sparse_ae"))


def placed(path: str | Path) -> Path:
    """Return the absolute path of a file or folder as a user names it, so that a change of folder does not matter."""
    return Path(path).expanduser().absolute()


def names_file(place: str) -> bool:
    """True if ``place``, which names a file or an array of another file, is a file or a folder.

    >>> names_file("y"), names_file("y.npy")
    (False, True)
    """
    return Path(place).expanduser().exists() or file_format(Path(place)) is not None


def data_files(path: str | Path, *, path_option: str = "path") -> list[Path]:
    """Return the files that hold the rows at ``path``: that file, or the shards of that folder in natural order.

    Shards are the files of one format directly in the folder; hidden files and those of other types are left out.
    Raises ``ConfigError`` about ``path_option`` if there are none, or shards of several formats.
    """
    try:
        place = placed(path)
        mode = place.stat().st_mode
        inside = [entry for entry in place.iterdir() if entry.is_file()] if stat.S_ISDIR(mode) else None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(path_option, path, "no such file or folder") from error
    except (OSError, RuntimeError, ValueError) as error:  # no permission, no such user, a character no name can have
        raise ConfigError(path_option, path, f"cannot be read ({_cause(error)})") from error
    if inside is not None:
        return _shards(path, inside, path_option)
    if not stat.S_ISREG(mode):
        raise ConfigError(path_option, path, "neither a file nor a folder")
    if file_format(place) is None:
        reason = f"unknown file type {place.suffix}" if place.suffix else "a file name without an extension"
        raise ConfigError(path_option, path, reason, f"{listed(FORMATS)}, or a folder of such files")
    return [place]


def picture_files(path: str | Path, *, path_option: str = "path") -> list[Path]:
    """Return the pictures in the folder ``path`` and its subfolders, in natural order.

    Pictures are files whose names end as those of a format that Pillow reads; hidden ones are left out. Raises
    ``ConfigError`` about ``path_option`` if there are none.
    """
    place = placed(path)
    try:
        is_folder = stat.S_ISDIR(place.stat().st_mode)
        inside = files_below(place)
    except FileNotFoundError as error:
        raise ConfigError(path_option, path, "no such folder") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(path_option, path, f"cannot be read ({_cause(error)})") from error
    if not is_folder:
        raise ConfigError(path_option, path, "a file", "a folder of pictures")
    found = [file for file in inside if file.suffix.lower() in _picture_types()]
    if not found:
        raise ConfigError(
            path_option, path, "a folder without pictures", ".jpg, .png or such files, or folders of them"
        )
    return sorted(found, key=lambda file: natural_order(file.relative_to(place).as_posix()))


def files_below(folder: Path) -> list[Path]:
    """Return all files in ``folder`` and its subfolders but hidden ones; no link is followed back to where it is."""
    found = []
    for place, below, names in os.walk(folder, followlinks=True):
        here = Path(place)
        below[:] = [name for name in below if not (name.startswith(".") or _is_above(here, here / name, folder))]
        found += [here / name for name in names if not name.startswith(".")]
    return found


def picture_class(file: Path, path: str | Path) -> str | None:
    """Return the subfolder of ``path`` in which ``file`` is, however deep; None directly in it.

    >>> [picture_class(placed(file), "photos") for file in ("photos/cats/old/1.jpg", "photos/1.jpg")]
    ['cats', None]
    """
    first, *others = file.relative_to(placed(path)).parts
    return first if others else None


def file_format(file: Path) -> str | None:
    """Return the format of ``file`` by the end of its name; None for an unknown one.

    >>> file_format(Path("x.PTH")), file_format(Path("x.txt"))
    ('.pt', None)
    """
    return FORMATS.get(file.suffix.lower())


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Return a sorting key that compares the numbers in names by value.

    >>> sorted(["shard_10", "shard_2"], key=natural_order)
    ['shard_2', 'shard_10']
    """
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


@functools.cache
def _picture_types() -> frozenset[str]:
    from PIL import Image  # takes a while, and arrays need none

    return frozenset(end for end, name in Image.registered_extensions().items() if name in Image.OPEN)


def _shards(path: str | Path, inside: list[Path], path_option: str) -> list[Path]:
    found = [file for file in inside if file_format(file) and not file.name.startswith(".")]
    formats = {str(file_format(file)) for file in found}
    if not found:
        raise ConfigError(path_option, path, "a folder without data files", f"{listed(FORMATS)} files directly in it")
    if len(formats) > 1:
        raise ConfigError(path_option, path, f"a folder with {listed(formats)} files", "shards of one format")
    return sorted(found, key=lambda file: natural_order(file.name))


def _is_above(here: Path, link: Path, top: Path) -> bool:
    """True if ``link`` leads to ``here``, or to a folder between it and ``top``."""
    if not link.is_symlink():
        return False
    target = link.resolve()
    return any(place.resolve() == target for place in (here, *here.parents) if place.is_relative_to(top))


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
