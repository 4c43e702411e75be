"""Bundled MNIST: the original bytes, unpacked safely, split and batched."""

import errno
import hashlib
import multiprocessing
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparse_ae.config.build import build
from sparse_ae.data import MNIST, DataModule, Split
from sparse_ae.data.embedded import MD5, unpack_mnist
from sparse_ae.data.loader import ResidentLoader
from tests import processes  # its fork server has imported torch
from tests.helpers import mnist, plain_config


@pytest.fixture(scope="module")
def default(data_root: Path) -> MNIST:
    """The default data, whose files are read once."""
    return mnist()


def _digests(raw: Path) -> dict[str, str]:
    return {name: hashlib.md5((raw / name).read_bytes()).hexdigest() for name in MD5}


def _unpack_without_warnings(raw: Path) -> None:
    warnings.simplefilter("error")
    unpack_mnist(raw)


@pytest.mark.slow
def test_eight_processes_unpack_at_once(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=_unpack_without_warnings, args=(raw,)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert _digests(raw) == MD5
    assert {path.name for path in raw.iterdir()} <= {*MD5, ".unpack.lock"}  # no temporary file is left


def test_files_already_there_are_left_alone_and_damaged_ones_replaced(default: MNIST, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(default.root / "MNIST" / "raw", tmp_path / "raw"))
    written = {name: (raw / name).stat().st_mtime_ns for name in MD5}
    damaged = "t10k-images-idx3-ubyte"
    (raw / damaged).write_bytes((raw / damaged).read_bytes()[:-1])
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.warns(UserWarning, match=f"{damaged} is damaged"), processes.without_locks(errno.ENOLCK):
        unpack_mnist(raw)
    assert _digests(raw) == MD5
    assert {name for name in MD5 if (raw / name).stat().st_mtime_ns == written[name]} == {
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    }


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"data\.root: cannot write MNIST to .*SPARSE_AE_DATA"):
        unpack_mnist(tmp_path / "file" / "raw")


def rows(data: DataModule, name: Split) -> torch.Tensor:
    """All rows of a split, as stored."""
    own = data.split(name).rows
    return own.read(0, len(own))


def test_splits_are_disjoint_sized_and_fixed_by_the_seed(default: MNIST) -> None:
    data = default
    train, val, test = (rows(data, name) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (55_000, 5_000, 10_000)
    assert train.dtype == torch.uint8
    assert train.max() == 255
    images, labels = data.source("train")
    of_train, of_val = data.split("train").label, data.split("val").label
    # 59 training images of MNIST are alike in all pixels but not in number: compare sums per class, not rows.
    for digit in range(10):
        ours = train[of_train == digit].sum() + val[of_val == digit].sum()
        assert ours == images.take((labels == digit).nonzero()[:, 0]).sum()
    assert not torch.equal(rows(mnist(seed=1), "val"), val)


def test_batches_are_the_stored_bytes_in_the_unit_interval(default: MNIST) -> None:
    data = default
    train = rows(data, "train")
    loader = data.train_dataloader()
    assert isinstance(loader, ResidentLoader)
    order = loader.sampler.indices()
    for batch, chosen in zip(loader, order.split(loader.batch_size), strict=True):
        assert torch.equal(batch.x, train[chosen].float() / 255)
    assert data.train_mean.numpy() == pytest.approx(train.numpy().mean(axis=0, dtype=np.float64) / 255, rel=1e-6)


def test_in_python_the_defaults_are_those_of_the_config(default: MNIST, data_root: Path, tmp_path: Path) -> None:
    ours, theirs = MNIST(), default
    ours.prepare_data()
    assert ours.root == data_root
    assert MNIST(root=str(tmp_path)).root == tmp_path
    assert torch.equal(rows(ours, "train"), rows(theirs, "train"))
    for name in ("train", "val", "test"):
        a, b = (next(iter(getattr(data, f"{name}_dataloader")())) for data in (ours, theirs))
        assert torch.equal(a.x, b.x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: should be greater than 0"),
        ({"batch_size": 55_001}, "batch_size=55001: larger than the data (expected 1 to 55000)"),
        ({"val_size": 60_000}, "val_size=60000: leaves no training rows (expected 0 to 59999)"),
        ({"transforms": [torch.relu], "shift": 1}, "shift=1: transforms are there already (expected 0)"),
        ({"shift": 28}, "shift=28: as large as an image (expected 0 to 27)"),
    ],
)
def test_bad_options_in_python(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        MNIST(**options)
    assert str(error.value) == message


def test_no_validation_split() -> None:
    data = mnist(val_size=0)
    assert len(data.split("train").rows) == 60_000
    assert data.val_dataloader() == []


NOISE = {"_target_": "torchvision.transforms.v2.GaussianNoise", "sigma": 0.5}


@pytest.mark.parametrize("transform_target", [False, True])
def test_transforms_corrupt_training_inputs_only(transform_target: bool, default: MNIST) -> None:
    spec = {**plain_config()["data"], "transforms": [NOISE], "transform_target": transform_target}
    data = build(spec, "data")
    data.prepare_data()
    clean = next(iter(default.train_dataloader()))
    noisy = next(iter(data.train_dataloader()))
    again = next(iter(data.train_dataloader()))
    assert not torch.equal(noisy.x, clean.x)
    assert torch.equal(noisy.x, again.x)  # a function of (seed, epoch, index)
    assert torch.equal(noisy.target, noisy.x if transform_target else clean.x)
    data.train_dataloader().sampler.set_epoch(0)
    validation = next(iter(data.val_dataloader()))
    assert torch.equal(validation.x, validation.target)


def test_a_data_loader_sees_what_the_resident_path_sees(default: MNIST) -> None:
    resident, plain = default, mnist(transforms=[torch.nn.Identity()])
    first, second = resident.train_dataloader(), plain.train_dataloader()
    assert len(first) == len(second)
    for epoch in (0, 3):
        first.sampler.set_epoch(epoch)
        second.sampler.set_epoch(epoch)
        assert torch.equal(next(iter(first)).x, next(iter(second)).x)
