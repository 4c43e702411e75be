"""Damaged checkpoints and full disks: a run resumes from what is intact, or fails with a reason."""

import pickle
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sparse_ae.run.checkpoint import read_checkpoint, write_checkpoint
from sparse_ae.run.directory import Run
from sparse_ae.run.errors import CheckpointError, RunError
from sparse_ae.training import checkpointing
from tests.helpers import train_run
from tests.scenarios.crashes import SHORT, PowerCut, assert_same, copy_run


class Bomb:
    """A pickle that writes a file when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("open('exploded', 'w').close()",))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def _bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def _sealed_bomb(path: Path) -> None:
    write_checkpoint(path, {"state_dict": Bomb(), "loops": {}})


DAMAGES = [_empty, _truncated, _flipped, _foreign, _bomb, _sealed_bomb]


@pytest.mark.parametrize("damage", [_empty, _flipped, _sealed_bomb])
def test_resume_from_previous_checkpoint(
    tmp_path: Path,
    pair: tuple[Run, Run],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, half = pair[0], copy_run(pair[1], tmp_path / "half")
    assert read_checkpoint(half.last_checkpoint)["global_step"] == 16
    assert read_checkpoint(half.previous_checkpoint)["global_step"] == 8
    half.last_checkpoint.unlink()  # a file of its own, not another name of the best one
    half.last_checkpoint.write_bytes(pair[1].last_checkpoint.read_bytes())
    damage(half.last_checkpoint)
    assert_same(train_run(half.path, *SHORT), whole)
    out = capsys.readouterr().out
    assert "last.ckpt" in out
    assert "the checkpoint before it is used" in out
    assert not Path("exploded").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_not_unpickled(
    tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "copy.ckpt"
    path.write_bytes(pair[1].last_checkpoint.read_bytes())
    damage(path)
    with pytest.raises(CheckpointError, match=r"copy\.ckpt: (is|not|cannot)"):
        read_checkpoint(path)
    assert not Path("exploded").exists()


def test_no_intact_checkpoint(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    half = copy_run(pair[1], tmp_path / "half")
    for path in (half.last_checkpoint, half.previous_checkpoint):
        path.unlink()
        _empty(path)
    with pytest.raises(RunError, match=r"last\.ckpt: .*previous\.ckpt: .*; rerun=all starts over"):
        train_run(half.path, *SHORT)
    assert train_run(half.path, *SHORT, "rerun=all").weights.read_bytes() == pair[0].weights.read_bytes()


@contextmanager
def quota(size: int) -> Iterator[None]:
    """The operating system lets no file of more than ``size`` bytes be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_failed_save_keeps_last_checkpoint(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    half = copy_run(pair[1], tmp_path / "half")
    with quota(200_000), pytest.raises(OSError, match="File too large"):
        train_run(half.path, *SHORT)
    assert (half.read_state(), "File too large" in half.status.error) == ("failed", True)
    assert read_checkpoint(half.last_checkpoint)["global_step"] == 16
    assert not list(half.last_checkpoint.parent.glob(".last*"))
    assert_same(train_run(half.path, *SHORT), pair[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint and the temporary half of another."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        train_run(small_disk / "run", *SHORT)
    run = Run(small_disk / "run")
    assert (run.read_state(), "No space left on device" in run.status.error) == ("failed", True)
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 8
    roomy = copy_run(run, tmp_path / "roomy")
    assert_same(train_run(roomy.path, *SHORT), train_run(tmp_path / "whole", *SHORT))


def test_failed_save_after_fallback(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    half = copy_run(pair[1], tmp_path / "half")
    half.last_checkpoint.unlink()
    _empty(half.last_checkpoint)
    with quota(200_000), pytest.raises(OSError, match="File too large"):
        train_run(half.path, *SHORT)
    assert_same(train_run(half.path, *SHORT), pair[0])


def test_kill_between_save_and_link_keeps_best(
    tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpointing.link

    def killed(path: Path, name: Path) -> None:
        if name.name == "best.ckpt":
            raise PowerCut
        real(path, name)

    overrides = [*SHORT, "checkpoint.mode=max"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "link", killed)
        with pytest.raises(PowerCut):
            train_run(tmp_path / "half", *overrides)
    half, whole = train_run(tmp_path / "half", *overrides), train_run(tmp_path / "whole", *overrides)
    steps = [read_checkpoint(run.best_checkpoint)["global_step"] for run in (half, whole)]
    assert steps[0] == steps[1]
