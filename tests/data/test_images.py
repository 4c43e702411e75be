"""Folders of pictures: classes, sizes, formats, and pictures that are none."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

from sparse_ae.data import ImageFolder
from sparse_ae.data.content import identity
from tests.helpers import fresh_config


def paint(file: Path, seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    """A picture of random pixels, ``size`` is (H, W)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two classes, one of them deeper, beside what is no picture."""
    folder = tmp_path / "photos"
    for i in range(3):
        paint(folder / "cats" / f"{i}.png", i)
        paint(folder / "dogs" / ("old" if i == 2 else "") / f"{i}.PNG", 10 + i)
    (folder / "README.txt").write_text("no picture")
    (folder / ".thumbnails").mkdir()
    shutil.copy(folder / "cats" / "0.png", folder / ".thumbnails")
    return folder


def images(path: Path, **options: Any) -> ImageFolder:
    options = {
        "size": [8, 8],
        "batch_size": 2,
        "val_size": 1,
        "test_size": 1,
        "root": str(path.parent / "cache"),
    } | options
    return ImageFolder(path=str(path), **options)


def test_classes_and_pixels_are_those_of_torchvision(photos: Path) -> None:
    data = images(photos)
    data.prepare_data()
    shutil.rmtree(photos / ".thumbnails")  # for torchvision a class
    theirs = datasets.ImageFolder(str(photos), v2.PILToTensor())
    rows, label = data.source("train")
    assert label is not None
    assert label.tolist() == theirs.targets == [0, 0, 0, 1, 1, 1]
    assert data.classes == theirs.classes == ["cats", "dogs"]
    assert torch.equal(rows.read(0, 6).view(6, 3, 8, 8), torch.stack([x for x, _ in theirs]))
    assert data.input_shape == (3, 8, 8)
    assert data.sizes == {"train": 4, "val": 1, "test": 1}
    batch = next(iter(data.train_dataloader()))
    assert batch.x.dtype == torch.float32
    assert float(batch.x.max()) <= 1.0 < 1.2 * float(batch.x.max())
    assert data.in_unit_interval


def test_without_subfolders_there_are_no_labels(tmp_path: Path) -> None:
    for i in (10, 9, 2):
        paint(tmp_path / "photos" / f"{i}.bmp", i)
    data = images(tmp_path / "photos", val_size=0)
    data.prepare_data()
    rows, label = data.source("train")
    assert label is None
    expected = [np.asarray(Image.open(tmp_path / "photos" / f"{i}.bmp")) for i in (2, 9, 10)]
    assert torch.equal(rows.read(0, 3).view(3, 3, 8, 8).permute(0, 2, 3, 1), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("size", [(8, 8), (4, 10), (10, 4), (30, 31)])
@pytest.mark.parametrize("channels", [1, 3])
def test_scaled_until_covered_then_cropped(size: tuple[int, int], channels: int, tmp_path: Path) -> None:
    file = paint(tmp_path / "photos" / "0.png", 0, (20, 16))
    paint(tmp_path / "photos" / "1.png", 1, (20, 16))
    data = images(tmp_path / "photos", size=list(size), channels=channels, val_size=0, test_size=0)
    data.prepare_data()
    scale = max(size[0] / 20, size[1] / 16)
    covering = max(round(20 * scale), size[0]), max(round(16 * scale), size[1])
    picture = Image.open(file).convert("RGB" if channels == 3 else "L")
    picture = picture.resize(covering[::-1], Image.Resampling.BILINEAR)
    left, top = (covering[1] - size[1]) / 2, (covering[0] - size[0]) / 2
    expected = np.asarray(picture.crop((round(left), round(top), round(left) + size[1], round(top) + size[0])))
    row = data.source("train").rows.read(0, 1).view(channels, *size).permute(1, 2, 0)
    assert np.array_equal(row.numpy(), expected.reshape(*size, channels))


@pytest.mark.parametrize(
    ("mode", "end"), [("L", "png"), ("1", "tif"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg"), ("LA", "png")]
)
def test_modes(mode: str, end: str, tmp_path: Path) -> None:
    for i in range(2):
        paint(tmp_path / "photos" / f"{i}.{end}", i, mode=mode)
    data = images(tmp_path / "photos", val_size=0, test_size=0)
    data.prepare_data()
    assert data.doubts == []
    with Image.open(tmp_path / "photos" / f"0.{end}") as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(data.source("train").rows.read(0, 1).view(3, 8, 8).permute(1, 2, 0).numpy(), expected)


def test_sixteen_bits_and_rotation(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(values).save(tmp_path / "photos" / "0.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    upside_down = Image.fromarray((values // 256).astype(np.uint8)[::-1, ::-1])
    upside_down.save(tmp_path / "photos" / "1.png", exif=exif)
    data = images(tmp_path / "photos", channels=1, val_size=0, test_size=0)
    data.prepare_data()
    first, second = data.source("train").rows.read(0, 2).view(2, 8, 8).numpy()
    assert np.array_equal(first, np.round(values / 257))
    assert np.array_equal(second, values // 256)


def _damage(photos: Path) -> None:
    (photos / "cats" / "1.png").write_bytes((photos / "cats" / "0.png").read_bytes()[:60])
    (photos / "dogs" / "0.PNG").write_text("no picture")


def test_what_cannot_be_decoded_is_left_out_and_told(photos: Path) -> None:
    _damage(photos)
    data = images(photos)
    assert data.sizes["train"] == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.prepare_data()
    assert data.sizes == {"train": 2, "val": 1, "test": 1}
    _, label = data.source("train")
    assert label is not None
    assert label.tolist() == [0, 0, 1, 1]
    assert data.doubts == [f"2 of 6 pictures in {photos} cannot be decoded: cats/1.png, dogs/0.PNG"]
    again = images(photos, strict=True)
    with pytest.raises(
        ValueError, match=r"^data\.strict=true: 2 of 6 pictures .* cats/1\.png, dogs/0\.PNG \(expected .*false\)$"
    ):
        again.prepare_data()


def test_fewer_than_a_batch_can_be_decoded(photos: Path) -> None:
    _damage(photos)
    with pytest.raises(ValueError, match=r"batch_size=4: larger than the data \(expected 1 to 2\)"):
        images(photos, batch_size=4).prepare_data()


def test_none_can_be_decoded(tmp_path: Path) -> None:
    for i in range(5):
        paint(tmp_path / "photos" / f"{i}.png", i).write_bytes(b"")
    with pytest.raises(ValueError, match=r"^data\.path=.*photos: no picture can be decoded$"):
        images(tmp_path / "photos").prepare_data()


def test_own_test_folder_with_the_same_classes(photos: Path, tmp_path: Path) -> None:
    paint(tmp_path / "test" / "dogs" / "a.png", 77)
    data = images(photos, test_path=str(tmp_path / "test"))
    data.prepare_data()
    assert data.sizes == {"train": 5, "val": 1, "test": 1}
    _, label = data.split("test")
    assert label is not None
    assert label.tolist() == [1]
    paint(tmp_path / "test" / "cows" / "a.png", 78)
    with pytest.raises(
        ValueError, match=r"test_path=.*: classes that path does not have \(cows\) \(expected cats, dogs\)"
    ):
        images(photos, test_path=str(tmp_path / "test"))


def test_wrong_input(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    paint(tmp_path / "one" / "0.png", 0)
    shutil.copytree(photos, tmp_path / "mixed")
    paint(tmp_path / "mixed" / "0.png", 0)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "empty", {}, "path={}: a folder without pictures (expected .jpg, .png or such files, or folders of "
                                 "them)"),
        (tmp_path / "nowhere", {}, "path={}: no such folder"),
        (photos / "README.txt", {}, "path={}: a file (expected a folder of pictures)"),
        (tmp_path / "one", {}, "path={}: a folder with one picture (expected pictures to train on and to test)"),
        (tmp_path / "mixed", {}, "path={}: has pictures both directly in it and in subfolders, which are classes "
                                 "(expected one or the other)"),
        (photos, {"size": None}, "size: height and width are needed (expected [H, W], such as [32,32])"),
        (photos, {"size": [8]}, "size=[8]: height and width are needed (expected [H, W], such as [32,32])"),
        (photos, {"batch_size": 5}, "batch_size=5: larger than the data (expected 1 to 4)"),
    ]  # fmt: skip
    for path, options, message in cases:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            images(path, **options)
        assert str(error.value) == message.format(path)


def test_pictures_all_alike(tmp_path: Path) -> None:
    for i in range(5):
        paint(tmp_path / "photos" / f"{i}.png", 0)
    with pytest.raises(ValueError, match="data: all training rows are the same"):
        images(tmp_path / "photos").inspect()


def test_identity_is_of_contents_and_classes(photos: Path, tmp_path: Path) -> None:
    def content(path: Path) -> str | None:
        found: str | None = fresh_config("data=images", f"data.path={path}", "data.size=[8,8]")["data"]["content"]
        return found

    first = content(photos)
    assert first is not None
    assert first == identity({"path": str(photos)}, pictures=True)
    moved = photos.rename(tmp_path / "moved")
    assert content(moved) == first
    (moved / "dogs").rename(moved / "wolves")
    other_class = content(moved)
    paint(moved / "cats" / "0.png", 99)
    assert len({first, other_class, content(moved)}) == 3
