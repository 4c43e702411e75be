"""Identity of files: their contents count, their names, places and times do not; the cache is only a cache."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_ae.config.errors import UserError
from sparse_ae.data import content
from sparse_ae.data.content import digest
from sparse_ae.data.files import data_files

LONG_AGO = 10**18


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, of this test alone."""
    monkeypatch.setenv("SPARSE_AE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "digests"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that was not written just now."""
    return _write(tmp_path / "x.npy", b"some rows")


def _write(path: Path, text: bytes, mtime: int = LONG_AGO) -> Path:
    path.write_bytes(text)
    os.utime(path, ns=(mtime, mtime))
    return path


def test_one_value_makes_another_digest(tmp_path: Path, cache: Path) -> None:
    values = np.zeros((100, 7), dtype=np.float32)
    np.save(tmp_path / "x.npy", values)
    before = digest([tmp_path / "x.npy"])
    values[99, 6] = np.nextafter(np.float32(0), np.float32(1))
    np.save(tmp_path / "x.npy", values)
    assert digest([tmp_path / "x.npy"]) != before
    assert len(before) == 32


def test_name_place_and_time_do_not_count(tmp_path: Path, cache: Path, file: Path) -> None:
    before = digest([file])
    os.utime(file)
    assert digest([file]) == before
    (tmp_path / "elsewhere").mkdir()
    assert digest([file.rename(tmp_path / "elsewhere" / "y.pt")]) == before


def test_order_and_bounds_of_files_count(tmp_path: Path, cache: Path) -> None:
    a, b, ab, none = (
        _write(tmp_path / name, text) for name, text in zip("abcd", (b"1", b"2", b"12", b""), strict=True)
    )
    lists = ([a], [b], [a, b], [b, a], [ab], [a, b, none], [none], [none, none], [a, a], [])
    assert len({digest(files) for files in lists}) == len(lists)


def test_shards_count_in_natural_order(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in (1, 2, 10):
        np.save(folder / f"s{number}.npy", np.full((2, 2), number))
    before = digest(data_files(folder))
    (folder / "s10.npy").rename(folder / "s3.npy")
    (folder / "notes.txt").write_text("not data")
    assert digest(data_files(folder)) == before
    (folder / "s1.npy").rename(folder / "s11.npy")
    assert digest(data_files(folder)) != before


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 20), st.data())
def test_every_byte_counts_whatever_the_pieces(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, piece: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_AE_DATA", str(folder))
        patch.setattr(content, "_PIECE", piece)
        patch.setattr(content, "_BUFFER", 3)
        before = _fresh_digest(folder / "x", text)
        assert _fresh_digest(folder / "y", text) == before
        if text:
            place = data.draw(st.integers(0, len(text) - 1))
            changed = text[:place] + bytes([text[place] ^ data.draw(st.integers(1, 255))]) + text[place + 1 :]
            assert _fresh_digest(folder / "x", changed) != before
        assert _fresh_digest(folder / "x", text + b"\0") != before


def _fresh_digest(path: Path, text: bytes) -> str:
    """Digest of a file that is written just now, and hence not cached."""
    path.write_bytes(text)
    return digest([path])


def test_an_unchanged_file_is_not_read_again(cache: Path, file: Path) -> None:
    before = digest([file])
    _write(file, b"some more")  # of the same size and time: only reading would tell
    assert digest([str(file)]) == before
    assert digest([_write(file, b"some more", LONG_AGO + 1)]) != before
    assert digest([_write(file, b"some rows", LONG_AGO + 2)]) == before
    _write(file.with_name("new"), b"some more", LONG_AGO + 2).replace(file)  # another inode
    assert digest([file]) != before


def test_only_new_shards_are_read(tmp_path: Path, cache: Path) -> None:
    files = [_write(tmp_path / name, b"old") for name in "abc"]
    digest(files)
    for file in files:
        _write(file, b"new")
    os.utime(files[1])
    as_read = [_write(tmp_path / name, text) for name, text in (("d", b"old"), ("e", b"new"), ("f", b"old"))]
    assert digest(files) == digest(as_read)


def test_a_file_written_just_now_is_not_trusted(tmp_path: Path, cache: Path) -> None:
    now = time.time_ns()
    file = _write(tmp_path / "x", b"1", now)
    before = digest([file])
    file.write_bytes(b"2")
    os.utime(file, ns=(now, now))  # within the same tick of a coarse clock
    assert digest([file]) != before


@pytest.mark.parametrize("damage", [b"", b"\xff", b"{}", b"[[[[", b'0\n[[[1,2,3,4],"00"]]'])
def test_a_damaged_cache_only_costs_time(cache: Path, file: Path, damage: bytes) -> None:
    before = digest([file])
    (entry,) = cache.iterdir()
    good = entry.read_bytes()
    entry.write_bytes(damage)
    assert digest([file]) == before
    assert entry.read_bytes() == good
    flipped = bytearray(good)
    flipped[-5] ^= 1  # in a digest
    entry.write_bytes(flipped)
    assert digest([file]) == before


def test_a_cache_that_cannot_be_used_only_costs_time(cache: Path, file: Path) -> None:
    before = digest([file])
    (entry,) = cache.iterdir()
    entry.unlink()
    entry.mkdir()
    assert digest([file]) == before
    entry.rmdir()
    cache.rmdir()
    cache.write_text("no folder")
    assert digest([file]) == before


def test_a_missing_file_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        digest([tmp_path / "gone.npy"])


def test_a_file_that_changes_while_it_is_read_is_named(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256

    def change(*content: bytes) -> "hashlib._Hash":
        if not content:  # the hash of a piece begins
            _write(file, b"other rows")
        return sha256(*content)

    monkeypatch.setattr(hashlib, "sha256", change)
    with pytest.raises(UserError) as error:
        digest([file])
    assert str(error.value) == f"{file}: has changed while it was read; repeat the command"
    assert not cache.exists()


def test_long_reads_are_told_once(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    digest([file], told.append)
    assert told == []
    monkeypatch.setattr(content, "_LONG", 5)
    digest([file], told.append)
    assert told == []  # cached
    digest([_write(file, b"other rows")], told.append)
    assert told == ["reading 0.0 GB of data to identify them, once"]


# The config is composed before torch is imported. The package sparse_ae.data imports it, its module content does not.
WITHOUT_TORCH = """
import sys, types, sparse_ae
sys.modules["sparse_ae.data"] = package = types.ModuleType("sparse_ae.data")
package.__path__ = [f"{sparse_ae.__path__[0]}/data"]
from sparse_ae.data.content import digest
assert "torch" not in sys.modules
"""


def test_several_processes_at_once_without_torch(cache: Path, file: Path) -> None:
    expected = digest([file])
    next(cache.iterdir()).unlink()
    code = f"{WITHOUT_TORCH}\nfor _ in range(20): print(digest(sys.argv[1:]))"
    line = [sys.executable, "-c", code, str(file)]
    workers = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 3
    assert set("".join(outputs).split()) == {expected}
    assert len(list(cache.iterdir())) == 1
