"""MNIST files bundled with the package, unpacked on first use."""

import math
import tarfile
import warnings
from collections.abc import Collection
from pathlib import Path

from torchvision.datasets.utils import check_integrity

from sparse_ae.atomic import write_atomically
from sparse_ae.lock import hold

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 sum of each uncompressed IDX file."""

_ARCHIVE = Path(__file__).parent / "mnist" / "mnist.tar.xz"


def unpack_mnist(raw: Path) -> None:
    """Write the four IDX files into the folder ``raw``; intact files stay as they are.

    Writes are atomic, and one process unpacks while others wait, so that any number may call this at once. A damaged
    file is replaced with a warning. Raises ``OSError``, naming the folder, if that cannot be written.
    """
    if not _missing(raw):
        return
    try:
        with hold(raw / ".unpack.lock", wait=math.inf):
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
    return [name for name, md5 in MD5.items() if not check_integrity(raw / name, md5)]


def _extract(names: Collection[str], raw: Path) -> None:
    with tarfile.open(_ARCHIVE, mode="r|xz") as tar:
        for member in tar:  # a stream: decompressed once, members in stored order
            content = tar.extractfile(member)
            if member.name in names and content is not None:
                write_atomically(raw / member.name, content.read())
