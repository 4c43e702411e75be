"""Files and names that appear whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write to a temporary file beside ``path``, fsync, rename over it."""
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
    """Make ``name`` another name of the file ``path``, until one of them is replaced. Atomic."""
    name.parent.mkdir(parents=True, exist_ok=True)
    new = name.with_name(f".{name.name}")
    new.unlink(missing_ok=True)
    try:
        new.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, new)
    new.replace(name)


def make_writable(folder: Path) -> None:
    """Make ``folder`` and its parents, and write a file into it. Raises ``OSError``, one line, if it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder}: cannot be written ({error.strerror}; allowed: a folder you may write to)") from error
