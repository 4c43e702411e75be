"""Datasets that are downloaded: read where their files are, and named where they are not."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from sparse_ae.config.build import build
from tests.helpers import plain_config


def test_without_a_network_the_error_says_which_files_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["file:///nowhere/"])  # a network that is not there, at once
    data = build(plain_config("data=fashion_mnist", f"data.root={tmp_path}")["data"], "data")
    with pytest.raises(OSError, match="cannot be downloaded") as error:
        data.prepare_data()
    assert "\n" not in str(error.value)
    assert "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, " in str(error.value)
    assert str(tmp_path / "FashionMNIST" / "raw") in str(error.value)


def _idx(path: Path, shape: tuple[int, ...]) -> None:
    content = torch.arange(int(torch.Size(shape).numel())).remainder(256).byte()
    path.write_bytes(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content.numpy().tobytes())
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize(("group", "folder"), [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_files_already_there_are_read(group: str, folder: str, tmp_path: Path) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for name, images in (("train", 30), ("t10k", 5)):
        _idx(raw / f"{name}-images-idx3-ubyte", (images, 28, 28))
        _idx(raw / f"{name}-labels-idx1-ubyte", (images,))
    data = build(plain_config(f"data={group}", f"data.root={tmp_path}")["data"], "data")
    data.prepare_data()
    assert [len(data.source(name).rows) for name in ("train", "test")] == [30, 5]
