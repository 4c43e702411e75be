"""Rows on disk: what NumPy slices, from every format; and one line about every file that cannot be data."""

import io
import os
import pickle
import random
import socket
import struct
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sparse_ae.config.errors import ConfigError, UserError
from sparse_ae.data.rows import Rows, open_labels, open_rows

NUMPY_TYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
TYPES = (*NUMPY_TYPES, "bfloat16")


def _values(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 200, shape))
    return values.to(getattr(torch, dtype))


def _npy(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".npy")
    np.save(path, np.asarray(values.numpy(), order=order))
    return path


def _big_endian(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".npy")
    array = values.numpy()
    np.save(path, np.asarray(array.astype(array.dtype.newbyteorder(">")), order=order))
    return path


def _npz(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".npz")
    np.savez(path, other=np.arange(3), x=np.asarray(values.numpy(), order=order))
    return path


def _compressed(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".npz")
    array = values.numpy()
    np.savez_compressed(
        path, other=np.arange(3), x=np.asarray(array.astype(array.dtype.newbyteorder(">")), order=order)
    )
    return path


def _safetensors(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".safetensors")
    save_file({"other": torch.arange(3), "x": values.contiguous()}, path, metadata={"made": "here"})
    return path


def _ordered(values: torch.Tensor, order: str) -> torch.Tensor:
    backwards = tuple(reversed(range(values.ndim)))
    return values if order == "C" else values.permute(backwards).contiguous().permute(backwards)


def _pt(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".pt")
    torch.save({"other": torch.arange(3), "x": _ordered(values, order), "n": 1}, path)
    return path


def _pt_inside(path: Path, values: torch.Tensor, order: str) -> Path:
    """Rows that begin in the middle of what is stored."""
    path = path.with_suffix(".pth")
    torch.save({"x": torch.cat([values, values])[len(values) :], "other": values}, path)
    return path


def _pt_strided(path: Path, values: torch.Tensor, order: str) -> Path:
    path = path.with_suffix(".pt")
    torch.save({"x": torch.stack([values, values], dim=-1)[..., 1], "other": values}, path)
    return path


Writer = Callable[[Path, torch.Tensor, str], Path]
NUMPY_WRITERS: tuple[Writer, ...] = (_npy, _big_endian, _npz, _compressed)
TORCH_WRITERS: tuple[Writer, ...] = (_safetensors, _pt, _pt_inside, _pt_strided)


EVERY_WRITER = pytest.mark.parametrize("write", [*NUMPY_WRITERS, *TORCH_WRITERS])


def _types(write: Writer) -> tuple[str, ...]:
    return NUMPY_TYPES if write in NUMPY_WRITERS else TYPES


def _key(path: Path) -> str | None:
    return None if path.suffix == ".npy" else "x"


@EVERY_WRITER
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_type_in_every_format(tmp_path: Path, write: Writer, order: str) -> None:
    for dtype in _types(write):
        values = _values((7, 2, 3), dtype)
        path = write(tmp_path / dtype, values, order)
        rows = open_rows(path, _key(path))
        assert (rows.shape, rows.dtype) == ((2, 3), values.dtype)
        assert torch.equal(rows.read(1, 6), values[1:6].flatten(1))
        assert _same(rows.take(torch.tensor([6, 0, 6])), values.flatten(1), torch.tensor([6, 0, 6]))


@EVERY_WRITER
@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    order=st.sampled_from("CF"),
    data=st.data(),
)
def test_rows_are_those_that_numpy_slices(
    tmp_path_factory: pytest.TempPathFactory,
    write: Writer,
    sizes: list[int],
    shape: tuple[int, ...],
    order: str,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    values = _values((sum(sizes), *shape), data.draw(st.sampled_from(_types(write))))
    files = [write(folder / f"shard_{i}", part, order) for i, part in enumerate(values.split(sizes))]
    rows = open_rows(files[0] if len(files) == 1 else folder, _key(files[0]))
    expected = values.flatten(1)
    n = len(expected)
    assert (len(rows), rows.shape, rows.dtype, rows.dim) == (n, shape, values.dtype, expected.shape[1])
    assert rows.nbytes == expected.nbytes
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    assert torch.equal(rows.read(start, stop), expected[start:stop])
    index = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), max_size=40)), dtype=torch.int64)
    assert _same(rows.take(index), expected, index)
    assert _same(pickle.loads(pickle.dumps(rows)).take(index), expected, index)


def _same(taken: torch.Tensor, values: torch.Tensor, index: torch.Tensor) -> bool:
    rows = values.tolist()
    return taken.dtype == values.dtype and taken.tolist() == [rows[i] for i in index.tolist()]


@pytest.mark.parametrize(
    ("write", "is_mapped"),
    [(_npy, True), (_npz, True), (_compressed, False), (_safetensors, True), (_pt, True), (_pt_strided, False)],
)
def test_formats_that_are_read_from_disk(tmp_path: Path, write: Writer, is_mapped: bool) -> None:
    path = write(tmp_path / "x", _values((5, 3), "float32"), "C")
    assert open_rows(path, None if write is _npy else "x").is_mapped == is_mapped


def test_torch_files_that_are_compressed_or_not_stored_as_they_are(tmp_path: Path) -> None:
    imaginary = torch.view_as_complex(_values((5, 3, 2), "float32")).conj().imag  # stored with the other sign
    for name, values in (("plain", _values((5, 3), "float32")), ("negative", imaginary)):
        torch.save(values, tmp_path / "x.pt")
        _rezip(tmp_path / "x.pt", tmp_path / f"{name}.pt", zipfile.ZIP_DEFLATED)
        for path in (tmp_path / "x.pt", tmp_path / f"{name}.pt"):
            assert torch.equal(open_rows(path).read(0, 5), values)


def test_rows_read_are_memory_of_their_own(tmp_path: Path) -> None:
    rows = open_rows(_npy(tmp_path / "x", _values((5, 3), "float32"), "C"))
    before = rows.read(0, 5)
    rows.read(0, 5).zero_()
    assert torch.equal(rows.read(0, 5), before)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_npy(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.eye(3), version)
    assert torch.equal(open_rows(tmp_path / "x.npy").read(0, 3), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("fortran_order", [False, True])
def test_a_large_file_is_opened_and_read_in_part(tmp_path: Path, fortran_order: bool) -> None:
    n, dim = 10**9, 4  # 16 GB, which take no space: a file of holes
    path = tmp_path / "x.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f4", "fortran_order": fortran_order, "shape": (n, dim)}
        )
        start = stream.tell()
        stream.truncate(start + 4 * n * dim)
        stream.seek(start + 4 * (dim * n - (1 if fortran_order else dim)))  # the last row's last or first value
        stream.write(struct.pack("<f", 7))
    last = torch.zeros(1, dim)
    last[0, -1 if fortran_order else 0] = 7
    rows = open_rows(path)
    assert torch.equal(rows.read(n - 1, n), last)
    assert torch.equal(rows.take(torch.tensor([n - 1, 5, n // 2])), torch.cat([last, torch.zeros(2, dim)]))


def test_columns_larger_than_the_buffer_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.readers._COLUMN_BYTES", 100)
    monkeypatch.setattr("sparse_ae.data.readers._SPAN", 8)
    monkeypatch.setattr("sparse_ae.data.readers._GAP", 3)
    values = _values((50, 7), "float32")
    rows = open_rows(_npy(tmp_path / "x", values, "F"))
    index = torch.tensor([49, 3, 4, 7, 30, 8, 9, 10, 11, 12, 0])
    assert torch.equal(rows.read(3, 40), values[3:40])
    assert torch.equal(rows.take(index), values[index])


def test_reads_of_the_system_may_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = _values((50, 7), "float32")
    rows = open_rows(_npy(tmp_path / "x", values, "C"))
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: preadv(fd, [buffers[0][:11]], offset))
    index = torch.tensor([9, 7, 8, 0, 49, 10])
    assert torch.equal(rows.read(2, 50), values[2:])
    assert torch.equal(rows.take(index), values[index])


def test_more_rows_in_a_run_than_buffers_in_a_read(tmp_path: Path) -> None:
    values = _values((3000, 2), "int16")
    rows = open_rows(_npy(tmp_path / "x", values, "C"))
    index = torch.arange(3000).flip(0)
    assert torch.equal(rows.take(index), values[index])


def test_shards_are_in_natural_order_and_other_files_left_out(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        np.save(tmp_path / f"shard_{number}.npy", np.full((2, 3), number))
    for name in ("README.txt", ".shard_0.npy", "shards.json"):
        (tmp_path / name).write_text("something else")
    (tmp_path / "folder.npy").mkdir()
    assert open_rows(tmp_path).read(0, 6)[:, 0].tolist() == [1, 1, 2, 2, 10, 10]


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_few_of_many_shards_are_open(tmp_path: Path) -> None:
    for number in range(40):
        np.save(tmp_path / f"{number}.npy", np.full((3, 2), number))
    before = _open_files()
    rows = open_rows(tmp_path)
    assert _open_files() == before
    assert rows.read(0, 120)[:, 0].tolist() == [i // 3 for i in range(120)]
    assert _open_files() <= before + 16
    del rows
    assert _open_files() == before


@pytest.mark.parametrize("order", ["C", "F"])
def test_threads_read_at_once(tmp_path: Path, order: str) -> None:
    values = _values((2000, 5), "float32")
    for i, part in enumerate(values.split(100)):  # more shards than files are open
        _npy(tmp_path / str(i), part, order)
    rows = open_rows(tmp_path)

    def reads(seed: int) -> bool:
        draw = random.Random(seed)
        same = []
        for _ in range(10):
            start, stop = sorted(draw.choices(range(2001), k=2))
            index = torch.tensor(draw.choices(range(2000), k=50))
            same += [
                torch.equal(rows.read(start, stop), values[start:stop]),
                torch.equal(rows.take(index), values[index]),
            ]
        return all(same)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(reads, range(4)))


# Labels


@pytest.mark.parametrize("write", [_npy, _big_endian, _npz, _compressed, _safetensors, _pt])
@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (6,)), ("int64", (6, 1)), ("float32", (6,)), ("bool", (6,))])
def test_labels(tmp_path: Path, write: Writer, dtype: str, shape: tuple[int, ...]) -> None:
    values = _values(shape, dtype)
    labels = open_labels(write(tmp_path / "y", values, "C"), None if write in (_npy, _big_endian) else "x").number
    assert labels.dtype == torch.int64
    assert labels.tolist() == values.flatten().tolist()


def test_labels_in_shards_and_as_strings(tmp_path: Path) -> None:
    np.savez(tmp_path / "1.npz", x=np.eye(2), y=np.array(["dog", "ant"]))
    np.savez_compressed(tmp_path / "2.npz", x=np.eye(2), y=np.array(["elephant", "dog"]))
    labels = open_labels(tmp_path, "y")
    assert [labels.names[i] for i in labels.number] == ["dog", "ant", "elephant", "dog"]
    assert len(open_rows(tmp_path, "x")) == 4


# Files that change


def _rewrite(path: Path) -> None:
    np.save(path, np.ones((5, 3)))
    os.utime(path, ns=(0, 0))  # however coarse the clock of the file system is


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


@pytest.mark.parametrize("change", [_rewrite, _truncate])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, change: Callable[[Path], None], order: str
) -> None:
    path = _npy(tmp_path / "x", _values((5, 3), "float64"), order)
    rows, unread = open_rows(path), open_rows(path)
    rows.read(0, 5)
    change(path)
    for read in (rows.read, unread.read, pickle.loads(pickle.dumps(rows)).read):
        with pytest.raises(UserError) as error:
            read(0, 5)
        assert str(error.value) == f"{path}: has changed since it was opened; repeat the command"
    for taker in (rows, unread):
        with pytest.raises(UserError, match="has changed"):
            taker.take(torch.tensor([4, 0]))


def test_a_file_in_memory_that_changed_before(tmp_path: Path) -> None:
    path = _compressed(tmp_path / "x", _values((5, 3), "float64"), "C")
    rows = open_rows(path, "x")
    np.savez_compressed(path, x=np.ones((5, 4)))
    with pytest.raises(UserError, match="has changed"):
        rows.read(0, 5)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = _npy(tmp_path / "x", _values((5, 3), "float64"), "C")
    rows, unread = open_rows(path), open_rows(path)
    rows.read(0, 1)
    path.unlink()
    assert len(rows.read(0, 5)) == 5  # still open
    with pytest.raises(FileNotFoundError, match=r"x\.npy"):
        unread.read(0, 5)


def test_damage_inside_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((500, 30)))
    content = bytearray(path.read_bytes())
    content[50_000] ^= 255
    path.write_bytes(content)
    rows = open_rows(path)
    with pytest.raises(UserError, match=r"x\.npz: damaged \(.*\)") as error:
        rows.read(0, 1)
    assert "\n" not in str(error.value)


# Bad input

Bad = Callable[[Path], tuple[Path, str | None]]


def _bytes(content: bytes, name: str = "x.npy") -> Bad:
    def write(folder: Path) -> tuple[Path, None]:
        (folder / name).write_bytes(content)
        return folder / name, None

    return write


def _array(array: Any, name: str = "x.npy", key: str | None = None) -> Bad:
    def write(folder: Path) -> tuple[Path, str | None]:
        np.save(folder / name, array)
        return folder / name, key

    return write


def _header(shape: tuple[int, ...], data: int = 0) -> Bad:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return _bytes(stream.getvalue() + bytes(data))


def _arrays(key: str | None, **arrays: Any) -> Bad:
    def write(folder: Path) -> tuple[Path, str | None]:
        np.savez(folder / "x.npz", **arrays)
        return folder / "x.npz", key

    return write


def _tensors(content: object, key: str | None = None) -> Bad:
    def write(folder: Path) -> tuple[Path, str | None]:
        torch.save(content, folder / "x.pt")
        return folder / "x.pt", key

    return write


def _shards(**arrays: Any) -> Bad:
    def write(folder: Path) -> tuple[Path, None]:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        return folder, None

    return write


def _safetensors_header(header: bytes, length: int | None = None) -> Bad:
    return _bytes((len(header) if length is None else length).to_bytes(8, "little") + header, "x.safetensors")


def _cut(name: str) -> Bad:
    def write(folder: Path) -> tuple[Path, str | None]:
        whole = {"x.npz": _npz, "x.pt": _pt, "x.safetensors": _safetensors}[name](
            folder / "x", _values((5, 3), "float32"), "C"
        )
        whole.write_bytes(whole.read_bytes()[:-10])
        return whole, "x"

    return write


def _mixed(folder: Path) -> tuple[Path, None]:
    np.save(folder / "a.npy", np.eye(2))
    torch.save(torch.eye(2), folder / "b.pt")
    return folder, None


def _hidden(folder: Path) -> tuple[Path, None]:
    np.save(folder / ".a.npy", np.eye(2))
    (folder / "inner").mkdir()
    np.save(folder / "inner" / "a.npy", np.eye(2))
    return folder, None


def _empty_shard(folder: Path) -> tuple[Path, None]:
    np.save(folder / "a.npy", np.eye(2))
    (folder / "b.npy").touch()
    return folder, None


def _folder_named_as_a_file(folder: Path) -> tuple[Path, None]:
    (folder / "x.npy").mkdir()
    return folder / "x.npy", None


def _loop(folder: Path) -> tuple[Path, None]:
    (folder / "x.npy").symlink_to(folder / "x.npy")
    return folder / "x.npy", None


def _dangling(folder: Path) -> tuple[Path, None]:
    (folder / "x.npy").symlink_to(folder / "gone.npy")
    return folder / "x.npy", None


def _socket(folder: Path) -> tuple[Path, None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "x.npy"))
    return folder / "x.npy", None


def _no_permission(folder: Path) -> tuple[Path, None]:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    np.save(folder / "x.npy", np.eye(2))
    (folder / "x.npy").chmod(0)
    return folder / "x.npy", None


def _encrypted(folder: Path) -> tuple[Path, None]:
    np.savez(folder / "x.npz", x=np.eye(2))
    content = bytearray((folder / "x.npz").read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags] |= 1
    (folder / "x.npz").write_bytes(content)
    return folder / "x.npz", None


def _other_byte_order(folder: Path) -> tuple[Path, None]:
    torch.save(torch.eye(2), folder / "y.pt")
    _rezip(
        folder / "y.pt",
        folder / "x.pt",
        zipfile.ZIP_STORED,
        byteorder=b"big" if sys.byteorder == "little" else b"little",
    )
    return folder / "x.pt", None


def _rezip(source: Path, target: Path, compression: int, **changed: bytes) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name.rpartition("/")[2], old.read(name)))


def _zip_without_arrays(folder: Path) -> tuple[Path, None]:
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("notes.txt", "none")
    return folder / "x.npz", None


TYPES_LISTED = (
    "(expected bfloat16, bool, float16, float32, float64, int16, int32, int64, int8, uint16, uint32, uint64, uint8)"
)
KNOWN = ".npy, .npz, .pt, .pth, .safetensors"
OBJECTS = "holds Python objects, which are not loaded, since they can run code"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # Places
        (lambda folder: (folder / "y.npy", None), "path={path}: no such file or folder"),
        (lambda folder: (folder / "\0.npy", None), "path={path}: cannot be read (embedded null byte)"),
        (
            lambda folder: (Path("~nobody-of-that-name/x.npy"), None),
            "path={path}: cannot be read (Could not determine...",
        ),
        (_dangling, "path={path}: no such file or folder"),
        (_loop, "path={path}: cannot be read (Too many levels of symbolic links)"),
        (_no_permission, "path={path}: cannot be read (Permission denied)"),
        (_socket, "path={path}: neither a file nor a folder"),
        (_bytes(b"x", "x.csv"), f"path={{path}}: unknown file type .csv (expected {KNOWN}, or a folder of such files)"),
        (_bytes(b"x", "x"), "path={path}: a file name without an extension (expected..."),
        (
            _folder_named_as_a_file,
            f"path={{path}}: a folder without data files (expected {KNOWN} files directly in it)",
        ),
        (_hidden, "path={path}: a folder without data files (expected..."),
        (_mixed, "path={path}: a folder with .npy, .pt files (expected shards of one format)"),
        # .npy
        (_bytes(b""), "path={path}: is empty, 0 bytes"),
        (_bytes(b"abc"), "path={path}: not an .npy array, or a truncated one (..."),
        (_bytes(b"\x93NUMPY\1\0\x76\0{'descr'"), "path={path}: not an .npy array, or a truncated one (..."),
        (_bytes(b"\x93NUMPY\7\0\x76\0{'descr'"), "path={path}: not an .npy array, or a truncated one (..."),
        (_header((5, 3), 59), "path={path}: truncated: its header promises 188 bytes, and there are 187"),
        (
            _header((10**9, 10**9)),
            "path={path}: truncated: its header promises 4000000000000000128 bytes, and there are 128",
        ),
        (_header((-5, 3), 60), "path={path}: damaged (its header says shape (-5, 3))"),
        (_array(np.float32(1)), "path={path}: holds a single number (expected an array (n, ...))"),
        (
            _array(np.zeros(5)),
            "path={path}: has shape (5,): its rows have no values of their own "
            "(expected (n, D); reshape(-1, 1) for D = 1)",
        ),
        (_array(np.zeros((0, 5))), "path={path}: has shape (0, 5): no rows (expected at least one row)"),
        (
            _array(np.zeros((5, 0))),
            "path={path}: has shape (5, 0): its rows have no values (expected (n, D) with D > 0)",
        ),
        (_array(np.zeros((2, 2), complex)), f"path={{path}}: holds values of type complex128 {TYPES_LISTED}"),
        (_array(np.full((2, 2), "a")), f"path={{path}}: holds values of type str {TYPES_LISTED}"),
        (_array(np.zeros((2, 2), "M8[s]")), f"path={{path}}: holds values of type datetime64[s] {TYPES_LISTED}"),
        (_array(np.zeros((2, 2), "V2")), f"path={{path}}: holds values of type void16 {TYPES_LISTED}"),
        (_array(np.zeros((2, 2), "f4,i4")), f"path={{path}}: holds values of type void64 {TYPES_LISTED}"),
        (_array(np.array([[1, None]])), f"path={{path}}: {OBJECTS} (expected an array of numbers)"),
        (_array(np.eye(2), key="x"), "key=x: x.npy holds one array, without a name (expected no key)"),
        # .npz
        (_cut("x.npz"), "path={path}: not an .npz file, or a truncated one"),
        (_encrypted, "path={path}: damaged (File 'x.npy' is encrypted..."),
        (_zip_without_arrays, "path={path}: holds no arrays"),
        (_arrays(None, x=np.eye(2), y=np.ones(2)), "key: x.npz holds several arrays (expected x, y)"),
        (_arrays("xs", x=np.eye(2), y=np.ones(2)), "key=xs: not in x.npz; did you mean x? (expected x, y)"),
        (
            _arrays("y", x=np.eye(2), y=np.ones(2)),
            "path={path}: y has shape (2,): its rows have no values of their own (exp...",
        ),
        (
            _arrays("y", x=np.eye(2), y=np.ones((2, 2), object)),
            f"path={{path}}: {OBJECTS} (expected an array of numbers)",
        ),
        # .safetensors
        (_safetensors_header(b"{", 1000), "path={path}: truncated: its header promises 1008 bytes, and there are 9"),
        (_safetensors_header(b"{"), "path={path}: damaged: its header is not that of a .safetensors file"),
        (_safetensors_header(b"[1]"), "path={path}: damaged: its header is not that of a .safetensors file"),
        (
            _safetensors_header(b'{"x":{"dtype":"F32","shape":[2,-1],"data_offsets":[0,8]}}'),
            "path={path}: damaged: its...",
        ),
        (
            _safetensors_header(b'{"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,8]}}'),
            "path={path}: damaged: its...",
        ),
        (_safetensors_header(b"{}"), "path={path}: holds no arrays"),
        (
            _safetensors_header(b'{"x":{"dtype":"C64","shape":[1,1],"data_offsets":[0,8]}}'),
            "path={path}: x holds values of...",
        ),
        (_cut("x.safetensors"), "path={path}: truncated: its header promises {promised} bytes, and there are {there}"),
        # .pt
        (_cut("x.pt"), "path={path}: not a file of torch.save from torch 1.6 on, or a truncated one"),
        (
            _bytes(pickle.dumps({"x": 1}), "x.pt"),
            "path={path}: not a file of torch.save from torch 1.6 on, or a trunc...",
        ),
        (_tensors([torch.eye(2)]), "path={path}: holds a list (expected a tensor, or a dict of tensors)"),
        (_tensors({"lr": 0.1}), "path={path}: holds no arrays"),
        (_tensors(torch.nn.Linear(2, 2)), f"path={{path}}: {OBJECTS} (expected a tensor, or a dict of tensors)"),
        (_tensors({"a": torch.eye(2), "b": torch.eye(2)}), "key: x.pt holds several arrays (expected a, b)"),
        (_tensors({"a": torch.eye(2), "b": torch.eye(2)}, "c"), "key=c: not in x.pt (expected a, b)"),
        (_tensors(torch.eye(2), "c"), "key=c: x.pt holds one array, without a name (expected no key)"),
        pytest.param(
            _tensors(torch.eye(2).to_sparse()),
            "path={path}: cannot be read (...",
            marks=pytest.mark.filterwarnings("ignore:Validating sparse tensor"),
        ),
        (_tensors(torch.eye(2).to(torch.cfloat)), f"path={{path}}: holds values of type complex64 {TYPES_LISTED}"),
        # Shards
        (_empty_shard, "path={path}: b.npy: is empty, 0 bytes"),
        (_shards(a=np.zeros((0, 3))), "path={path}: a.npy: has shape (0, 3): no rows (expected at least one row)"),
        (
            _shards(a_1=np.eye(2), a_2=np.eye(2), a_10=np.eye(3)),
            "path={path}: shards disagree: a_1.npy has rows of shape (2,), and a_10.npy (3,)",
        ),
        (
            _shards(a=np.eye(2), b=np.eye(2, dtype=int)),
            "path={path}: shards disagree: a.npy has values of type float64, and b.npy int64",
        ),
        (
            _shards(a=np.eye(2), b=np.eye(2, dtype=">f8")),
            "path={path}: shards disagree: a.npy has values of type float64, and b.npy float64 in the other byte order",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, make: Bad, message: str) -> None:
    path, key = make(tmp_path)
    with pytest.raises(ConfigError) as error:
        open_rows(path, key)
    if "{there}" in message:
        there = path.stat().st_size
        message = message.format(path=path, promised=there + 10, there=there)
    else:
        message = message.replace("{path}", str(path))
    text = str(error.value)
    assert "\n" not in text
    assert text == message or (message.endswith("...") and text.startswith(message[:-3]))


def test_errors_are_about_the_options_that_the_caller_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        open_rows(tmp_path / "x.npy", path_option="test_path")
    assert error.value.key == "test_path"
    path, _ = _arrays(None, x=np.eye(2), y=np.ones(2))(tmp_path)
    with pytest.raises(ConfigError) as error:
        open_labels(path, "labels", key_option="labels")
    assert error.value.key == "labels"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((5, 2)), "path={path}: has shape (5, 2): not one label per row (expected (n,))"),
        (np.array([0, 1, 1.5]), "path={path}: label 1.5 in row 2 (expected whole numbers or strings)"),
        (np.array([0, np.nan]), "path={path}: label nan in row 1 (expected whole numbers or strings)"),
        (np.array([0, np.inf]), "path={path}: label inf in row 1 (expected whole numbers or strings)"),
        (np.zeros(0), "path={path}: has shape (0,): no rows (expected at least one row)"),
        (np.array([1j]), f"path={{path}}: holds values of type complex128 {TYPES_LISTED}"),
        (np.array([{}]), f"path={{path}}: {OBJECTS} (expected an array of numbers)"),
    ],
)
def test_bad_labels_are_one_line(tmp_path: Path, labels: Any, message: str) -> None:
    path = tmp_path / "y.npy"
    np.save(path, labels)
    with pytest.raises(ConfigError) as error:
        open_labels(path)
    assert str(error.value) == message.format(path=path)


class _Bomb:
    """Writes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def _bombs(folder: Path, bomb: _Bomb) -> list[Path]:
    objects = np.empty((2, 1), object)
    objects[:] = [[bomb], [bomb]]
    np.save(folder / "a.npy", objects, allow_pickle=True)
    np.savez(folder / "b.npz", x=objects)
    torch.save(bomb, folder / "c.pt")
    torch.save({"x": torch.eye(2), "y": bomb}, folder / "d.pt")
    torch.save(bomb, folder / "e.pt", _use_new_zipfile_serialization=False)
    for name in ("f.pt", "g.npy", "h.npz", "i.safetensors"):
        (folder / name).write_bytes(pickle.dumps(bomb))
    return sorted(folder.iterdir())


def test_pickled_code_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = tmp_path / "bombs"
    folder.mkdir()
    for path in _bombs(folder, _Bomb(mark)):
        for opened in (open_rows, open_labels):
            with pytest.raises(ConfigError):
                opened(path)
    assert not mark.exists()
    pickle.loads((folder / "f.pt").read_bytes())
    assert mark.exists()  # a bomb it was


def test_rows_are_opened_by_what_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "X.npy", np.eye(2))
    (tmp_path / "X.npy").rename(tmp_path / "X.NPY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened: list[Rows] = [open_rows(path) for path in ("X.NPY", "~/X.NPY", ".", str(tmp_path))]
    assert [len(rows) for rows in opened] == [2] * 4
