"""Natural patches: places, whitening, splits that share no pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_ae.data import NaturalPatches

SIZE = 6


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures in which no pixel has the grey of its neighbours, so that a patch tells its place."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (100, 90 + 10 * i), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def patches(photographs: Path, **options: Any) -> NaturalPatches:
    """Few small patches, made."""
    options = {"size": SIZE, "n": 300, "test_size": 40, "val_size": 30, "root": str(photographs / "cache")} | options
    data = NaturalPatches(path=str(photographs), **options)
    data.prepare_data()
    return data


def _all(data: NaturalPatches, name: Any) -> torch.Tensor:
    rows = data.split(name).rows
    return rows.read(0, len(rows))


def test_no_training_patch_touches_validation_or_test_pixels(photographs: Path) -> None:
    data = patches(photographs, whitening="none")
    pictures = [np.asarray(Image.open(photographs / f"{i}.png")).astype(np.float32) for i in range(2)]
    windows = [np.lib.stride_tricks.sliding_window_view(picture, (SIZE, SIZE)) for picture in pictures]
    candidates = [w.reshape(-1, SIZE * SIZE) - w.reshape(-1, SIZE * SIZE).mean(axis=1, keepdims=True) for w in windows]
    unit = [c / np.linalg.norm(c, axis=1, keepdims=True) for c in candidates]
    covered: dict[str, list[np.ndarray]] = {}
    for name in ("train", "val", "test"):
        masks = [np.zeros_like(picture, dtype=int) for picture in pictures]
        places = set()
        for row in _all(data, name).numpy():
            scores = [u @ (row / np.linalg.norm(row)) for u in unit]
            i = int(scores[1].max() > scores[0].max())
            place = int(scores[i].argmax())
            assert scores[i][place] == pytest.approx(1, abs=1e-4)
            places.add((i, place))
            top, left = divmod(place, windows[i].shape[1])
            masks[i][top : top + SIZE, left : left + SIZE] += 1
        assert len(places) == {"train": 300, "val": 30, "test": 40}[name]  # no patch twice
        assert sum(i for i, _ in places) * 2 == len(places)  # as many of each photograph
        covered[name] = masks
    for i in range(2):
        assert (sum((covered[name][i] > 0).astype(int) for name in covered) <= 1).all()


def test_olshausen_is_the_filter_of_its_paper(photographs: Path) -> None:
    """The response to a grating far from the edges is its amplitude times R(f)."""
    from sparse_ae.data.natural_patches import _olshausen

    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(240.0), indexing="ij")
    for u, v in ((0.05, 0.0), (0.1, 0.2), (0.3, 0.25)):
        grating = torch.cos(2 * torch.pi * (u * y + v * x))
        f = (u**2 + v**2) ** 0.5
        response = _olshausen(grating + 3.0)
        expected = f * np.exp(-((f / 0.4) ** 4)) * grating
        assert response.shape == grating.shape
        assert torch.allclose(response[60:-60, 60:-60], expected[60:-60, 60:-60], atol=4e-3)


@pytest.mark.parametrize("whitening", ["olshausen", "zca", "none"])
def test_patches_have_no_mean_and_unit_variance(whitening: str, photographs: Path) -> None:
    data = patches(photographs, whitening=whitening)
    x = _all(data, "train")
    assert x.dtype == torch.float32
    assert data.input_shape == (1, SIZE, SIZE)
    assert not data.in_unit_interval
    assert float(x.square().mean()) == pytest.approx(1, rel=1e-4)
    for name in ("train", "val", "test"):
        assert float(_all(data, name).mean(dim=1).abs().max()) < 1e-3


def test_zca_patches_are_white(photographs: Path) -> None:
    """But for the mean, which is removed, and the ridge."""
    covariance = np.cov(_all(patches(photographs, whitening="zca"), "train").T.numpy())
    values = np.linalg.eigvalsh(covariance)
    assert values[0] == pytest.approx(0, abs=1e-5)
    assert values[1:] == pytest.approx(np.full(SIZE**2 - 1, SIZE**2 / (SIZE**2 - 1)), rel=0.02)


def test_everything_comes_from_the_seed(photographs: Path, tmp_path: Path) -> None:
    first = patches(photographs)
    again, other = patches(photographs, root=str(tmp_path)), patches(photographs, seed=1)
    for name in ("train", "val", "test"):
        assert torch.equal(_all(first, name), _all(again, name))
        assert not torch.equal(_all(first, name), _all(other, name))


def test_shares_of_the_training_patches(photographs: Path) -> None:
    data = patches(photographs, val_size=0.1, test_size=0.2)
    assert data.sizes == {"train": 300, "val": 30, "test": 60}
    assert len(_all(data, "test")) == 60
    assert patches(photographs, val_size=0).sizes == {"train": 300, "val": 0, "test": 40}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 10**6}, r"data\.n=1000000: 500,000 different patches are wanted of a part of 0\.png that has "),
        ({"size": 16}, r"data\.path=.*: 0\.png has 100 x 90 pixels \(expected at least 96 x 96\)"),
    ],
)  # fmt: skip
def test_photographs_too_small(options: dict[str, Any], message: str, photographs: Path) -> None:
    with pytest.raises(ValueError, match=message):
        patches(photographs, **options)


def test_photographs_that_are_none(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 7, dtype=np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"data\.path=.*: photographs of one grey"):
        patches(tmp_path, whitening="none", n=100, test_size=1, val_size=1, batch_size=10)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data\.path=.*: bad\.png cannot be decoded"):
        patches(tmp_path)


def test_those_that_scikit_learn_ships() -> None:
    data = NaturalPatches(n=400, val_size=50, test_size=50)
    data.prepare_data()
    assert data.sizes == {"train": 400, "val": 50, "test": 50}
    assert data.describe() == (
        "data: patches of 12 x 12 from 2 photographs of scikit-learn, whitening=olshausen; 400 train, 50 val, 50 test"
    )
