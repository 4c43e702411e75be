"""Locks, where the file system has them and where it has none."""

import errno
import fcntl
import functools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest

from sparse_ae import lock
from sparse_ae.lock import HeldError, Holder, describe_holder, hold, is_held, lacks_locks
from tests.processes import without_locks

NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO, errno.ESTALE, errno.EACCES]
"""Answers of file systems without locks, or with broken ones."""

systems = pytest.mark.parametrize("system", [nullcontext, *(functools.partial(without_locks, c) for c in NO_LOCKS)])


@contextmanager
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is killed."""
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def record_of(process: subprocess.Popen[bytes], **changes: object) -> str:
    """The record that ``process`` would have written."""
    started = psutil.Process(process.pid).create_time()
    holder = Holder(host=socket.gethostname(), pid=process.pid, started=started, token="other")
    return holder.model_copy(update=changes).model_dump_json()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A lock that nobody holds any more."""
    (tmp_path / ".lock").touch()
    return tmp_path / ".lock"


@pytest.fixture
def record(file: Path) -> Path:
    """The place of its record."""
    return file.with_name(".lock.holder")


@systems
def test_one_at_a_time(tmp_path: Path, system: Callable[[], AbstractContextManager[None]]) -> None:
    file = tmp_path / "new" / ".lock"
    with system():
        assert not is_held(file)
        for _ in range(2):
            with hold(file):
                assert is_held(file)
                assert describe_holder(file) == f"process {os.getpid()} on {socket.gethostname()}"
                with pytest.raises(HeldError), hold(file, wait=0.1):
                    pass
                assert is_held(file)
            assert not is_held(file)
    assert [path.name for path in file.parent.iterdir()] == [".lock"]


@pytest.mark.parametrize("code", NO_LOCKS)
def test_a_killed_holder_holds_no_longer(file: Path, record: Path, code: int) -> None:
    with without_locks(code), other_process() as process:
        record.write_text(record_of(process))
        os.utime(record, (0, 0))  # suspended for years, perhaps, but here it can be seen
        assert is_held(file)
        with pytest.raises(HeldError), hold(file, wait=0.1):
            pass
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE  # nobody has asked for its exit code
        assert not is_held(file)
        process.wait()
        assert not is_held(file)
        with hold(file):
            assert is_held(file)


def test_a_process_that_got_the_number_of_a_dead_one_is_another(file: Path, record: Path) -> None:
    with without_locks(errno.ENOLCK), other_process() as process:
        record.write_text(record_of(process, started=time.time() - 3600))
        assert not is_held(file)


def test_a_holder_on_another_machine_lives_as_long_as_it_touches_its_record(file: Path, record: Path) -> None:
    with without_locks(errno.ENOLCK):
        record.write_text(Holder(host="elsewhere", pid=os.getpid(), started=0, token="").model_dump_json())
        assert is_held(file)
        advice = f"; if that has died, wait 5 minutes or delete {record}"
        assert describe_holder(file) == f"process {os.getpid()} on elsewhere{advice}"
        four, six = (time.time() - 60 * minutes for minutes in (4, 6))
        os.utime(record, (four, four))
        assert is_held(file)
        os.utime(record, (six, six))
        assert not is_held(file)
        with hold(file):
            assert is_held(file)
    record.write_text(Holder(host="elsewhere", pid=os.getpid(), started=0, token="").model_dump_json())
    assert not is_held(file)  # where there are locks, they decide


def test_a_holder_touches_its_record(file: Path, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.01)
    with hold(file):
        os.utime(record, (0, 0))
        end = time.monotonic() + 60
        while record.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff", b'{"host": "a", "pid": -1, "started": 0, "token": ""}']
)
def test_a_damaged_record_counts_by_its_age(file: Path, record: Path, content: bytes) -> None:
    with without_locks(errno.ENOLCK):
        record.write_bytes(content)
        assert is_held(file)
        os.utime(record, (0, 0))
        assert not is_held(file)
        with hold(file):
            pass
    assert not record.exists()


def test_of_many_that_start_at_once_one_has_it(file: Path) -> None:
    """Without locks, the last to claim it."""
    holders, refused, start = [], [], threading.Barrier(8)

    def attempt() -> None:
        start.wait()
        try:
            with hold(file, wait=0):
                holders.append(1)
                time.sleep(1)
        except HeldError:
            refused.append(1)

    with without_locks(errno.ENOSYS):
        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(holders), len(refused)) == (1, 7)


def test_a_process_that_was_taken_for_dead_leaves_the_record_of_its_successor(file: Path, record: Path) -> None:
    with without_locks(errno.ENOLCK), hold(file):
        successor = Holder(host="elsewhere", pid=1, started=0, token="").model_dump_json()
        record.write_text(successor)
    assert record.read_text() == successor


def test_a_folder_in_place_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    assert not is_held(tmp_path / ".lock")
    with pytest.raises(IsADirectoryError), hold(tmp_path / ".lock"):
        pass


def test_looking_needs_no_permission_to_write(tmp_path: Path, read_only: Callable[[Path], Path]) -> None:
    (tmp_path / "run").mkdir()
    with hold(tmp_path / "run" / ".lock"):
        folder = read_only(tmp_path / "run")
        assert is_held(folder / ".lock")
    assert not is_held(folder / ".lock")


def test_two_that_look_do_not_take_each_other_for_a_holder(file: Path) -> None:
    with file.open("rb") as one:
        fcntl.flock(one, fcntl.LOCK_SH)
        assert not is_held(file)


def test_a_forked_worker_that_outlives_its_parent_keeps_no_lock(file: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from sparse_ae.lock import hold\n"
        "with hold(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:\n"
        "        print(flush=True)\n"  # by the child, so that it has run its hooks of a fork
        "    time.sleep(100)\n"
    )
    arguments = [sys.executable, "-c", code, file]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert is_held(file)
        (worker,) = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait()
        held = is_held(file)
        worker.kill()
    assert not held


def test_a_file_system_without_locks_is_named(tmp_path: Path) -> None:
    assert lacks_locks(tmp_path) is None
    with without_locks(errno.ENOLCK):
        warning = str(lacks_locks(tmp_path))
    assert warning.startswith(f"{tmp_path}: this file system has no locks (No locks available); ")
    assert list(tmp_path.iterdir()) == []
