"""The MNIST files that travel with the package, unpacked on first use."""

import hashlib
import os
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import IO

from filelock import FileLock

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""The md5 sum of each uncompressed IDX file."""

_ARCHIVE = Path(__file__).parent / "mnist" / "mnist.tar.xz"


def unpack_mnist(raw: Path) -> None:
    """Put the four IDX files into the folder ``raw``; files already there and whole are left alone.

    Each file appears under its name only when complete (temporary file, fsync, rename), and one process unpacks while
    others wait, so any number may call this at once. A damaged file is replaced with a warning. Raises ``OSError`` if
    the folder cannot be written, naming it.
    """
    if not _missing(raw):
        return
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(raw / ".unpack.lock"):
            missing = _missing(raw)  # another process may have unpacked while this one waited
            for name in missing:
                if (raw / name).exists():
                    warnings.warn(f"{raw / name} is damaged (wrong md5 sum) and is replaced", stacklevel=2)
            if missing:
                _extract(missing, raw)
    except OSError as error:
        raise OSError(
            f"data.root: cannot write MNIST to {raw} ({error.strerror or error}); "
            "set data.root or SPARSE_AE_DATA to a folder that can be written"
        ) from error


def _missing(raw: Path) -> list[str]:
    return [name for name, md5 in MD5.items() if not (raw / name).is_file() or _md5(raw / name) != md5]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _extract(names: list[str], raw: Path) -> None:
    with tarfile.open(_ARCHIVE, mode="r|xz") as tar:
        for member in tar:  # a stream: decompressed once, members in their stored order
            content = tar.extractfile(member)
            if member.name in names and content is not None:
                _write_atomically(raw / member.name, content)


def _write_atomically(path: Path, content: IO[bytes]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            while block := content.read(1 << 20):
                temporary.write(block)
            temporary.flush()
            os.fsync(temporary.fileno())
            Path(temporary.name).chmod(0o644)
            Path(temporary.name).replace(path)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise
