"""Rows that are made once: again after a kill, damage or another version, by one process at a time."""

import json
import os
import resource
import shutil
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparse_ae.config.errors import ConfigError
from sparse_ae.data.made import Made, Writer
from sparse_ae.data.splits import Split
from tests.processes import CONTEXT, wait_until


class Squares(Made):
    """Rows (i, i^2), and a line in ``log`` each time that they are made."""

    kind = "squares"
    input_shape = (2,)

    def __init__(self, root: Path, n: int = 50, pause: float = 0.0) -> None:
        self.n, self.pause, self.log = n, pause, root / "log"
        super().__init__(root=str(root), val_size=10, batch_size=5)

    def planned(self, name: Split) -> int | None:
        return self.n if name == "train" else None

    def recipe(self) -> Mapping[str, Any]:
        return {"n": self.n}

    def make(self, write: Writer) -> list[str]:
        with self.log.open("a") as log:
            log.write("made\n")
        for i in range(self.n):
            time.sleep(self.pause)
            write("train", np.array([[i, i * i]], dtype=np.int32), np.array([i % 3]))
        return ["squares are no data"]


def made(root: Path) -> int:
    return len((root / "log").read_text().splitlines())


def test_rows_are_made_once_and_read_on_every_tier(tmp_path: Path) -> None:
    first, second = Squares(tmp_path), Squares(tmp_path)
    first.prepare_data()
    second.prepare_data()
    assert made(tmp_path) == 1
    for data in (first, second):
        assert data.doubts == ["squares are no data"]
        assert data.sizes == {"train": 40, "val": 10, "test": 0}
        rows, label = data.split("train")
        x = rows.read(0, 40)
        assert torch.equal(x[:, 1], x[:, 0] ** 2)
        assert label is not None
        assert torch.equal(label, x[:, 0].long() % 3)
    third = Squares(tmp_path)
    third.storage = "disk"
    third.prepare_data()
    batches = zip(third.train_dataloader(), first.train_dataloader(), strict=True)
    assert all(torch.equal(a.x, b.x) for a, b in batches)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    """They come from no file that an option names."""

    class Infinite(Squares):
        kind = "infinite"

        def make(self, write: Writer) -> list[str]:
            write("train", np.full((self.n, 2), np.inf, dtype=np.float32))
            return []

    with pytest.raises(ConfigError, match=r"^data: row \d+, column 0 of the training file is inf \(expected finite"):
        Infinite(tmp_path).inspect()


def test_other_rows_have_another_folder(tmp_path: Path) -> None:
    a, b = Squares(tmp_path), Squares(tmp_path, n=51)
    a.prepare_data()
    b.prepare_data()
    assert a.folder != b.folder
    assert made(tmp_path) == 2


def test_shards_are_read_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_ae.data.made._SHARD_BYTES", 32)
    data = Squares(tmp_path)
    data.prepare_data()
    assert len(list((data.folder / "train").iterdir())) == 13  # the twelfth is full, the last is not
    rows, _ = data.source("train")
    assert torch.equal(rows.read(0, 50)[:, 0], torch.arange(50, dtype=torch.int32))


def _truncate(folder: Path) -> None:
    file = folder / "train" / "0.npy"
    file.write_bytes(file.read_bytes()[:-1])


def _change(folder: Path) -> None:
    file = folder / "train" / "0.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def _lose(folder: Path) -> None:
    shutil.rmtree(folder / "labels")


def _of_another_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))


def _scribble(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


@pytest.mark.parametrize("fault", [_truncate, _change, _lose, _scribble, _of_another_version])
def test_what_cannot_be_used_is_made_again_with_a_line(fault: Any, tmp_path: Path) -> None:
    data = Squares(tmp_path)
    data.prepare_data()
    whole = {file.name: file.read_bytes() for file in data.folder.rglob("*") if file.is_file()}
    fault(data.folder)
    reason = (
        r"was written by another version of this package \(99, not 1\)" if "version" in fault.__name__ else "is damaged"
    )
    with pytest.warns(UserWarning, match=rf"squares-\w+ {reason}; it is made again$"):
        Squares(tmp_path).prepare_data()
    assert {file.name: file.read_bytes() for file in data.folder.rglob("*") if file.is_file()} == whole


def test_what_was_never_finished_is_made_again_silently(tmp_path: Path) -> None:
    data = Squares(tmp_path)
    (data.folder / "train").mkdir(parents=True)
    (data.folder / "train" / "7.npy").write_bytes(b"half")
    data.prepare_data()
    assert len(data.source("train").rows) == 50


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    data = Squares(tmp_path, n=500)
    with _room_for(1000), pytest.raises(OSError, match=r"data\.root: cannot write") as error:
        data.prepare_data()
    assert str(data.folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert not data.folder.exists()
    data.prepare_data()
    assert len(data.source("train").rows) == 500


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = Squares(tmp_path / "file")
    data.log = tmp_path / "log"
    with pytest.raises(OSError, match=r"data\.root: cannot write .* \(.*\); set data\.root or SPARSE_AE_DATA"):
        data.prepare_data()


def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    class Changing(Squares):
        def recipe(self) -> Mapping[str, Any]:
            return {"log": self.log.exists()}

    data = Changing(tmp_path)
    with pytest.raises(ValueError, match="data: has changed while it was read; repeat the command"):
        data.prepare_data()
    assert not data.folder.exists()


def _make(root: Path, pause: float) -> None:
    warnings.simplefilter("error")
    data = Squares(root, pause=pause)
    data.prepare_data()
    assert len(data.source("train").rows) == 50


@pytest.mark.slow
def test_several_processes_make_at_once(tmp_path: Path) -> None:
    workers = [CONTEXT.Process(target=_make, args=(tmp_path, 0.02)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert made(tmp_path) == 1


@pytest.mark.slow
def test_killed_in_the_middle(tmp_path: Path) -> None:
    worker = CONTEXT.Process(target=_make, args=(tmp_path, 60.0))
    worker.start()
    wait_until(lambda: (tmp_path / "log").exists() and made(tmp_path))
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert Squares(tmp_path).folder.exists()  # without a manifest
    _make(tmp_path, 0.0)
    assert made(tmp_path) == 2
