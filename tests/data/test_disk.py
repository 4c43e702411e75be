"""Batches from disk against those of resident data; the thread that reads ahead."""

import contextlib
import errno
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_ae.config.errors import UserError
from sparse_ae.data.disk import DiskLoader
from sparse_ae.data.loader import Loader, ResidentLoader, Shift
from sparse_ae.data.order import EpochSampler
from sparse_ae.data.rows import Rows, Subset, open_rows

WAIT = 30
"""Seconds after which a thread is taken for hung."""


class Recorded(Rows):
    """Rows of a tensor, which records what is read and can fail."""

    def __init__(self, data: Tensor) -> None:
        self.data = data
        self.shape = tuple(data.shape[1:])
        self.dtype = data.dtype
        self.is_mapped = True
        self.reads: list[tuple[int, int]] = []
        self.taken = 0
        self.error: BaseException | None = None
        self.error_at = 0
        self.rows_read = 0

    def __len__(self) -> int:
        return len(self.data)

    def read_into(self, out: Tensor, start: int) -> None:
        assert 0 <= start < start + len(out) <= len(self)
        if self.error is not None and len(self.reads) >= self.error_at:
            raise self.error
        out[:] = self.data[start : start + len(out)]
        self.reads.append((start, start + len(out)))
        self.rows_read += len(out)

    def take(self, index: Tensor) -> Tensor:
        self.taken += len(index)
        return self.data[index]


def numbered(n: int, dim: int = 3) -> Tensor:
    """Rows of which no two are equal."""
    return torch.arange(n * dim, dtype=torch.float32).reshape(n, dim)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sparse_ae.data.disk"]


def join_readers() -> None:
    for thread in reading_threads():
        thread.join(WAIT)


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    yield
    if reading_threads():
        gc.collect()
    assert reading_threads() == []


def assert_same_batches(ours: Loader, theirs: Loader) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.x.dtype == b.x.dtype == torch.float32
        assert a.x.numpy().tobytes() == b.x.numpy().tobytes()
        assert a.target is a.x


@given(st.data())
def test_batches_are_those_of_resident_data(data: st.DataObject) -> None:
    """Any size, split, dtype, rank, order, augmentation and point of resuming."""
    in_file = data.draw(st.integers(1, 120))
    held_out = data.draw(st.none() | st.sets(st.integers(0, in_file - 1), max_size=in_file - 1))
    index = None if held_out is None else torch.tensor([i for i in range(in_file) if i not in held_out])
    n = in_file if index is None else len(index)
    dtype = data.draw(st.sampled_from([torch.uint8, torch.float32, torch.bfloat16, torch.float64]))
    seed, epoch = data.draw(st.integers(0, 100)), data.draw(st.integers(0, 3))
    world = data.draw(st.integers(1, 3))
    seen = data.draw(st.integers(0, n // world))
    batch_size = data.draw(st.integers(1, 40))
    shift = data.draw(st.sampled_from([None, Shift(pixels=1, epochs=None, shape=(1, 2, 2))]))
    stored = torch.randint(0, 256, (in_file, 4), generator=torch.Generator().manual_seed(seed)).to(dtype)
    options = {
        "seed": seed,
        "shuffle": data.draw(st.booleans()),
        "rank": data.draw(st.integers(0, world - 1)),
        "world_size": world,
        "resume_at": (epoch, seen),
        "window": data.draw(st.integers(1, 60)),
        "block": data.draw(st.integers(1, 20)),
    }
    samplers = [EpochSampler(n, **options) for _ in range(2)]
    split = stored if index is None else stored[index]
    rows = Recorded(stored) if index is None else Subset(Recorded(stored), index)
    disk = DiskLoader(rows, samplers[0], batch_size, torch.Tensor.float, shift=shift)
    resident = ResidentLoader(split, samplers[1], batch_size, torch.Tensor.float, shift=shift)
    for _ in range(2):
        assert_same_batches(disk, resident)
        for sampler in samplers:
            sampler.set_epoch(epoch + 1)


def test_a_file_is_read_once_per_epoch_in_blocks() -> None:
    rows = Recorded(numbered(100))
    list(DiskLoader(rows, EpochSampler(100, seed=0, shuffle=True, window=40, block=8), 16))
    assert sorted(rows.reads) == [(start, min(start + 8, 100)) for start in range(0, 100, 8)]
    assert rows.reads != sorted(rows.reads)


def test_a_split_with_few_gaps_is_read_as_ranges_and_a_sparse_one_row_by_row() -> None:
    index = torch.tensor([i for i in range(100) if i % 10])
    rows = Recorded(numbered(100))
    list(DiskLoader(Subset(rows, index), EpochSampler(90, seed=0, shuffle=True, window=45, block=9), 16))
    assert sorted(rows.reads) == [(start, start + 9) for start in range(1, 100, 10)]
    held_out = Recorded(numbered(100))
    list(DiskLoader(Subset(held_out, torch.arange(0, 100, 10)), EpochSampler(10, seed=0, shuffle=False), 16))
    assert (held_out.reads, held_out.taken) == ([], 10)


def test_a_resumed_epoch_does_not_read_the_windows_that_were_seen() -> None:
    rows = Recorded(numbered(100))
    sampler = EpochSampler(100, seed=0, shuffle=True, window=25, block=5, resume_at=(2, 60))
    assert sum(len(batch.x) for batch in DiskLoader(rows, sampler, 10)) == 40
    assert rows.rows_read == 50


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64])
def test_two_windows_are_in_memory_at_most(batch_size: int) -> None:
    """Rows read and not yet yielded are at most two windows, and the next window is read before it is asked for."""
    n, window = 200, 20
    rows = Recorded(numbered(n))
    used = 0
    for batch in DiskLoader(rows, EpochSampler(n, seed=0, shuffle=True, window=window, block=4), batch_size):
        used += len(batch.x)
        join_readers()
        begun = -(-used // window)  # number of windows of which a row was used
        assert rows.rows_read == min(begun + 1, n // window) * window
    assert used == n


def test_the_last_window_is_freed_before_its_last_batch_is_used() -> None:
    """Validation comes before Lightning asks for the end of the epoch, and needs the memory."""
    windows = []
    for _ in DiskLoader(Recorded(numbered(22)), EpochSampler(22, seed=0, shuffle=True, window=11), 8):
        join_readers()
        tensors = (found for found in gc.get_objects() if type(found) is Tensor)
        windows.append(len({rows.data_ptr() for rows in tensors if rows.shape == (11, 3)}))
    assert windows == [2, 1, 0]


def failing(error: BaseException, after: int) -> tuple[Recorded, DiskLoader]:
    rows = Recorded(numbered(60))
    rows.error, rows.error_at = error, after
    return rows, DiskLoader(rows, EpochSampler(60, seed=0, shuffle=False, window=20, block=5), 10)


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_an_error_arrives_once_as_it_is(after: int) -> None:
    error = OSError(5, "Input/output error", "rows.npy")
    rows, loader = failing(error, after)
    batches = iter(loader)
    yielded = []
    with pytest.raises(OSError, match=r"rows\.npy") as caught:
        yielded.extend(batches)
    assert caught.value is error
    with pytest.raises(StopIteration):
        next(batches)
    assert reading_threads() == []
    rows.error = None  # it was a passing one
    assert torch.equal(torch.cat([batch.x for batch in loader]), rows.data)


def test_a_failed_iterator_frees_its_windows() -> None:
    rows, loader = failing(OSError("gone"), 5)
    gc.disable()
    try:
        with contextlib.suppress(OSError):
            list(loader)
        rows.error = None
        freed = weakref.ref(loader)
        del loader
        assert freed() is None, "kept by a cycle through the traceback"
    finally:
        gc.enable()


class Gated(Recorded):
    """Rows of which a read after the first ``free`` waits until ``gate`` is open."""

    def __init__(self, data: Tensor, free: int) -> None:
        super().__init__(data)
        self.free = free
        self.gate = threading.Event()
        self.waiting = threading.Event()

    def read_into(self, out: Tensor, start: int) -> None:
        if len(self.reads) >= self.free:
            self.waiting.set()
            assert self.gate.wait(WAIT)
        super().read_into(out, start)


@pytest.mark.parametrize("leave", ["break", "close", "exception", "garbage", "cycle"])
def test_an_iterator_that_is_left_ends_its_thread_at_the_next_block(
    leave: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Gated(numbered(80), free=5)  # the first window, and one block of the second
    loader = DiskLoader(rows, EpochSampler(80, seed=0, shuffle=True, window=20, block=4), 10)
    batches = iter(loader)
    next(batches)
    assert rows.waiting.wait(WAIT)
    (thread,) = reading_threads()
    assert thread.daemon
    join = threading.Thread.join

    def open_and_join(thread: threading.Thread, timeout: float | None = None) -> None:
        rows.gate.set()  # only now: the thread is waited for in the middle of a block
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", open_and_join)
    match leave:
        case "break":
            for _ in batches:
                break
            del batches
        case "close":
            batches.close()
        case "exception":
            with pytest.raises(ZeroDivisionError):
                _ = [1 / 0 for _ in batches]
            del batches
        case "garbage":
            del batches
        case "cycle":
            cycle = [batches]
            cycle.append(cycle)
            del batches, cycle
            gc.collect()
    assert not thread.is_alive()
    assert len(rows.reads) == 6, "the block that was being read, and none after it"


def test_an_iterator_may_be_collected_by_its_own_thread() -> None:
    """The garbage collector runs in whichever thread allocates."""

    class Collecting(Gated):
        def read_into(self, out: Tensor, start: int) -> None:
            super().read_into(out, start)
            if self.waiting.is_set():
                gc.collect()

    rows = Collecting(numbered(80), free=5)
    loader = DiskLoader(rows, EpochSampler(80, seed=0, shuffle=True, window=20, block=4), 10)
    cycle = [iter(loader)]
    next(cycle[0])
    assert rows.waiting.wait(WAIT)
    (thread,) = reading_threads()
    gc.disable()
    try:
        cycle.append(cycle)
        del cycle
        rows.gate.set()
        thread.join(WAIT)
    finally:
        gc.enable()
    assert not thread.is_alive()
    assert len(rows.reads) == 6


def test_iterators_of_one_loader_do_not_disturb_each_other() -> None:
    rows = Recorded(numbered(60))
    sampler = EpochSampler(60, seed=0, shuffle=True, window=20, block=4)
    loader = DiskLoader(rows, sampler, 7)
    first, second = [], []
    for a, b in zip(loader, loader, strict=True):
        first.append(a.x)
        second.append(b.x)
    assert torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(first), rows.data[sampler.indices()])


@pytest.mark.parametrize("shard_rows", [90, 31, 4])
@pytest.mark.parametrize("layout", ["plain", "Fortran order", "other byte order"])
def test_shards_are_read_as_one_file(tmp_path: Path, shard_rows: int, layout: str) -> None:
    data = np.random.default_rng(0).integers(0, 2**15, (90, 2, 3), dtype=np.int16)
    for shard, start in enumerate(range(0, 90, shard_rows)):
        part = data[start : start + shard_rows]
        if layout == "other byte order":
            part = part.astype(part.dtype.newbyteorder())
        np.save(tmp_path / f"{shard}.npy", np.asfortranarray(part) if layout == "Fortran order" else part)
    index = torch.tensor([i for i in range(90) if i % 8])
    samplers = [EpochSampler(len(index), seed=0, shuffle=True, window=20, block=6) for _ in range(2)]
    rows = Subset(open_rows(tmp_path), index)
    assert (rows.pages() is not None) == (layout == "plain" and shard_rows > 4)  # more than 16 files are not mapped
    disk = DiskLoader(rows, samplers[0], 13)
    stored = torch.from_numpy(data.reshape(90, 6))[index]
    assert_same_batches(disk, ResidentLoader(stored, samplers[1], 13))


def mapped_kb(path: Path) -> int:
    """Memory of this process that is pages of the file."""
    total, mapping = 0, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            mapping = line
        elif name == "Rss:" and mapping.endswith(str(path)):
            total += int(values[0])
    return total


def test_systems_that_do_not_load_pages_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.pages._POPULATE_READ", -1)  # an advice that every kernel refuses
    np.save(tmp_path / "rows.npy", numbered(64, 8).numpy())
    sampler = EpochSampler(64, seed=0, shuffle=True, window=16, block=4)
    disk = DiskLoader(open_rows(tmp_path / "rows.npy"), sampler, 8)
    assert_same_batches(disk, ResidentLoader(numbered(64, 8), sampler, 8))


def test_file_systems_without_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("mmap.mmap", refuse)
    np.save(tmp_path / "rows.npy", numbered(64, 8).numpy())
    sampler, rows = EpochSampler(64, seed=0, shuffle=True, window=16, block=4), open_rows(tmp_path / "rows.npy")
    assert rows.pages() is None
    assert_same_batches(DiskLoader(rows, sampler, 8), ResidentLoader(numbered(64, 8), sampler, 8))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells the memory of a file")
@pytest.mark.parametrize("leave", ["end", "close"])
def test_pages_of_a_window_are_given_back(tmp_path: Path, leave: str) -> None:
    """The memory of the process stays that of a window, however large the file is."""
    path = tmp_path / "rows.npy"
    np.save(path, numbered(8192, 1024).numpy())
    rows = open_rows(path)
    assert rows.pages()
    batches = iter(DiskLoader(rows, EpochSampler(8192, seed=0, shuffle=False, window=512), 256))
    in_memory = []
    for _ in batches:
        in_memory.append(mapped_kb(path))
        if leave == "close" and len(in_memory) == 3:
            batches.close()
    assert 0 < max(in_memory) < 16384, "the file has 32768 kB, and a window 2048"
    assert mapped_kb(path) == 0


def test_a_file_that_is_cut_short_while_it_is_read_ends_the_epoch(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, numbered(64).numpy())
    sampler = EpochSampler(64, seed=0, shuffle=False, window=16, block=4)
    batches = iter(DiskLoader(open_rows(path), sampler, 8))
    next(batches)
    join_readers()
    with path.open("r+b") as file:
        file.truncate(500)
    with pytest.raises(UserError, match="has changed since it was opened"):
        list(batches)


def test_a_file_that_was_cut_is_found_before_its_pages_are_used(tmp_path: Path) -> None:
    """Memory beyond the end of a file would end the process by a signal."""
    path = tmp_path / "rows.npy"
    np.save(path, numbered(4096).numpy())
    pages, order = open_rows(path).pages(), torch.arange(4000, 4096)
    assert pages
    list(pages.fetch(order))
    assert torch.equal(pages.gather(order), numbered(4096)[order])
    with path.open("r+b") as file:
        file.truncate(500)
    for use in (pages.fetch, pages.gather):
        with pytest.raises(UserError, match="has changed since it was opened"):
            list(use(order))
