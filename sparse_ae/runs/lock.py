"""Lock of a run directory, between the processes of one machine or of several that share the folder.

The operating system releases it when the process ends, however it ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_SECONDS = 1.0
"""Grace period: ``is_held`` in another process may hold the lock for an instant."""


@contextmanager
def hold(file: Path) -> Iterator[None]:
    """Hold the lock for as long as the block lasts. Raises ``Timeout`` if another process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    lock.acquire(timeout=_SECONDS, poll_interval=0.02)
    try:
        yield
    finally:
        lock.release()


def is_held(file: Path) -> bool:
    """True if a process holds the lock."""
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: believe what status.json says
        return True
    lock.release()
    return False
