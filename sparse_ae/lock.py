"""Locks between processes of one machine, or of several that share a folder.

The operating system's lock ends with its process, however that ends. Some file systems have none: NFS without its lock
service, Lustre mounted without ``flock``. There the record decides that a holder keeps beside its lock. It names
process and machine, and the holder touches it as long as it lives.
"""

import errno
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
from pydantic import BaseModel, ConfigDict, PositiveInt

from sparse_ae.atomic import write_atomically

_POLL_SECONDS = 0.02
_CLAIM_SECONDS = 1.0
"""Time after which no other claim can follow: from the look that found no holder, a claim is written sooner."""
_BEAT_SECONDS = 30.0
"""Interval at which a holder touches its record."""
_LOST_MINUTES = 5
"""Age of a record whose holder, on another machine, counts as dead. Network file systems show changes a minute late."""
_CLOCK_SECONDS = 5.0
"""Largest change of the time at which a process seems to have started, as clocks are set."""


class HeldError(Exception):
    """Another process holds the lock."""


class Holder(BaseModel):
    """Record of the process that holds a lock."""

    model_config = ConfigDict(frozen=True)

    host: str
    """Machine of the process."""
    pid: PositiveInt
    """Number of the process on its machine."""
    started: float
    """Time at which the process started, in seconds since 1970: its number may be another's by now."""
    token: str
    """Random text that tells two holds of one process apart."""


@contextmanager
def hold(file: Path, wait: float = 1.0) -> Iterator[None]:
    """Hold the lock ``file`` for as long as the block lasts.

    Raises ``HeldError`` if another process holds it for longer than ``wait`` seconds, among which are the instants in
    which ``is_held`` looks. Raises ``OSError`` if a file cannot be written there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    me = Holder(host=socket.gethostname(), pid=os.getpid(), started=_started(), token=secrets.token_hex(4))
    with file.open("ab", buffering=0) as lock, _closed_in_forks(lock):
        end = time.monotonic() + wait
        while not _acquire(lock, _record(file), me):
            if time.monotonic() >= end:
                raise HeldError(str(file))
            time.sleep(_POLL_SECONDS)
        with _kept(_record(file), me):
            yield


def is_held(file: Path) -> bool:
    """True if a process holds the lock. Writes nothing."""
    told = _ask(file)
    return _is_alive(_record(file)) if told is None else told


def describe_holder(file: Path) -> str:
    """``process 7 on node1``, and what to do if it has died and the file system cannot tell."""
    holder = _read(_record(file))
    if holder is None:
        return "another process"
    text = f"process {holder.pid} on {holder.host}"
    if holder.host == socket.gethostname() or _ask(file) is not None:
        return text
    return f"{text}; if that has died, wait {_LOST_MINUTES} minutes or delete {_record(file)}"


def lacks_locks(folder: Path) -> str | None:
    """A warning about the file system of ``folder``; None if it has locks."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            _flock(file)
        except OSError as error:
            return (
                f"{folder}: this file system has no locks ({error.strerror}); a file beside each run names the process "
                "that trains it. Two commands that start a run in the same second may both train it, and a run whose "
                f"machine failed can be resumed after {_LOST_MINUTES} minutes"
            )
    return None


def _acquire(lock: IO[bytes], record: Path, me: Holder) -> bool:
    """Try once to get the lock and write ``record``.

    Without locks this is Fischer's algorithm: of those that saw no holder, the last to write its claim has it.
    """
    try:
        _flock(lock)
    except BlockingIOError:
        return False
    except OSError:
        if _is_alive(record):
            return False
        _write(record, me)
        time.sleep(_CLAIM_SECONDS)
        return _read(record) == me
    _write(record, me)
    return True


def _ask(file: Path) -> bool | None:
    """Ask the operating system: True if a process holds the lock, None if it cannot tell."""
    try:
        with file.open("rb", buffering=0) as lock:
            _flock(lock, shared=True)
    except BlockingIOError:
        return True
    except OSError:  # no locks, no such file, or none that may be read
        return None
    return False


def _flock(file: IO[bytes], *, shared: bool = False) -> None:
    """Lock an open file until it is closed.

    Raises ``BlockingIOError`` if another has locked it, a different ``OSError`` where there are no locks.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl

    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _is_alive(record: Path) -> bool:
    """True if the holder that a record names is alive, as far as this machine can tell."""
    try:
        age = time.time() - record.stat().st_mtime
    except OSError:
        return False
    holder = _read(record)
    if holder is not None and holder.host == socket.gethostname():
        with suppress(psutil.AccessDenied):
            return _runs_here(holder)
    return age < 60 * _LOST_MINUTES


def _runs_here(holder: Holder) -> bool:
    try:
        process = psutil.Process(holder.pid)
        is_same = abs(process.create_time() - holder.started) < _CLOCK_SECONDS
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _started() -> float:
    return psutil.Process().create_time()


@contextmanager
def _kept(record: Path, me: Holder) -> Iterator[None]:
    """Touch the record at intervals inside ``with``, and remove it at the end."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            with suppress(OSError):  # the next may succeed
                if _read(record) == me:
                    os.utime(record)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            if _read(record) == me:
                record.unlink()


def _record(file: Path) -> Path:
    return file.with_name(f"{file.name}.holder")


def _write(record: Path, holder: Holder) -> None:
    write_atomically(record, holder.model_dump_json().encode())


def _read(record: Path) -> Holder | None:
    """The record; None if there is none that can be read."""
    try:
        return Holder.model_validate_json(record.read_bytes())
    except (OSError, ValueError):
        return None


_files: set[IO[bytes]] = set()
"""Files that this process has locked."""


@contextmanager
def _closed_in_forks(file: IO[bytes]) -> Iterator[None]:
    """Close ``file`` in processes forked inside ``with``: a worker that outlives its parent must not keep the lock."""
    _files.add(file)
    try:
        yield
    finally:
        _files.discard(file)


def _close_files() -> None:
    for file in _files:
        file.close()
    _files.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_files)
