"""Atomic file writes and links: a reader sees all of a file or nothing."""

import os
import shutil
import tempfile
from pathlib import Path


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write ``content`` to a temporary file beside ``path``, fsync it and rename it to ``path``."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            for part in content:
                temporary.write(part)
            temporary.flush()
            os.fsync(temporary.fileno())
            Path(temporary.name).chmod(0o644)
            Path(temporary.name).replace(path)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise


def link(path: Path, name: Path) -> None:
    """Hard-link ``name`` to the file ``path``, atomically; copy where there are no hard links."""
    name.parent.mkdir(parents=True, exist_ok=True)
    new = name.with_name(f".{name.name}")
    new.unlink(missing_ok=True)
    try:
        new.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, new)
    new.replace(name)


def make_writable(folder: Path) -> None:
    """Create ``folder`` and its parents. Raises ``OSError`` of one line unless a file can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{folder}: cannot be written ({error.strerror}; choose a folder with write permission)"
        ) from error
