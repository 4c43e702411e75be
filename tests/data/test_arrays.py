"""Arrays of the user's own: splits, tiers, units, bad input."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sparse_ae.config.errors import ConfigError
from sparse_ae.data import Arrays

DIGITS = load_digits()


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("digits.npz", x=DIGITS.data, y=DIGITS.target, images=DIGITS.images)
    np.save("x.npy", DIGITS.data.astype(np.float32))
    np.save("test.npy", DIGITS.data[:50].astype(np.float32))
    return tmp_path


def rows(data: Arrays, name: Any) -> torch.Tensor:
    own = data.split(name).rows
    return own.read(0, len(own))


def test_shares_are_drawn_and_every_row_is_in_one_split() -> None:
    data = Arrays(path="digits.npz", key="x", labels="y")
    assert data.sizes == {"train": 1437, "val": 180, "test": 180}
    together = torch.cat([rows(data, name) for name in ("train", "val", "test")]).numpy()
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, DIGITS.data.tolist()))
    by_row = {tuple(row): label for row, label in zip(DIGITS.data.tolist(), DIGITS.target.tolist(), strict=True)}
    labels = data.split("val").label
    assert labels is not None
    assert [by_row[tuple(row)] for row in rows(data, "val").tolist()] == labels.tolist()


def test_labels_are_an_array_of_every_file_or_files_of_their_own() -> None:
    np.save("y.npy", DIGITS.target)
    by_key = Arrays(path="digits.npz", key="x", labels="y", test_path="digits.npz")
    by_file = Arrays(path="digits.npz", key="x", labels="y.npy", test_path="digits.npz", test_labels="y.npy")
    for data in (by_key, by_file):
        assert data.split("test").label.tolist() == DIGITS.target.tolist()
    assert Arrays(path="digits.npz", key="x", labels="y.npy", test_path="digits.npz").split("test").label is None


def test_own_files_for_splits() -> None:
    data = Arrays(path="x.npy", test_path="test.npy", val_path="test.npy", batch_size=100)
    assert data.sizes == {"train": 1797, "val": 50, "test": 50}
    assert torch.equal(rows(data, "test"), torch.from_numpy(np.load("test.npy")))
    assert data.split("test").label is None


@pytest.mark.parametrize("window_gb", [1.0, 1e-4], ids=["one window", "several windows"])
@pytest.mark.parametrize("normalize", ["rms", "whiten"])
def test_storage_changes_nothing(window_gb: float, normalize: Any) -> None:
    """Every tier trains, validates and tests on the same bytes in the same order."""
    seen = []
    for storage in ("device", "host", "disk"):
        data = Arrays(path="x.npy", storage=storage, window_gb=window_gb, normalize=normalize)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(3)
        batches = [*loader, *data.val_dataloader(), *data.test_dataloader()]
        seen.append(torch.cat([batch.x for batch in batches]).numpy().tobytes())
        assert data.tier == storage
    assert seen[0] == seen[1] == seen[2]


def test_rows_are_images_where_the_file_or_the_user_says_so() -> None:
    assert Arrays(path="digits.npz", key="images").input_shape == (1, 8, 8)
    assert Arrays(path="digits.npz", key="x", input_shape=[8, 8]).input_shape == (1, 8, 8)
    assert Arrays(path="digits.npz", key="x").input_shape == (64,)


def test_the_description_tells_size_place_and_splits() -> None:
    data = Arrays(path="x.npy", device="cpu")
    expected = "data: x.npy (1,797 x 64 float32, 460 kB) on cpu; 1,437 train, 180 val, 180 test; normalize=rms"
    assert data.describe() == expected
    assert data.doubts == []
    np.save("turned.npy", DIGITS.data.T)
    assert "are rows and columns exchanged?" in Arrays(path="turned.npy", batch_size=8).doubts[0]


def test_moments_are_computed_once_per_content(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"path": "x.npy", "root": str(files / "cache"), "content": "0123"}
    first = Arrays(**options)
    first.inspect()
    monkeypatch.setattr(Arrays, "_chunks", lambda *_: pytest.fail("read again"))
    assert torch.equal(Arrays(**options).moments.mean, first.moments.mean)


def spoiled(row: int, column: int, value: float) -> np.ndarray[Any, Any]:
    x = DIGITS.data.astype(np.float32)
    x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (
            DIGITS.data,
            {"labels": "short.npy"},
            "labels=short.npy: 50 values for 1797 rows (expected 1797, one for each row)",
        ),
        (
            DIGITS.data,
            {"test_path": "wide.npy"},
            "test_path=wide.npy: rows of 65 float64, but those of path are 64 float64",
        ),
        (
            DIGITS.data,
            {"input_shape": [3, 3]},
            "input_shape=[3, 3]: not the 64 values of a row (expected (H, W) or (C, H, W))",
        ),
        (DIGITS.data, {"batch_size": 1500}, "batch_size=1500: larger than the data (expected 1 to 1437)"),
        (DIGITS.data, {"val_size": 0.95}, "val_size=0.95: leaves no training rows"),
        (DIGITS.data, {"shift": 1}, "shift: the rows are vectors, not images"),
        (DIGITS.data[:1], {}, "leaves no training rows"),
        (
            spoiled(17, 5, np.nan),
            {},
            "data.path: row 17, column 5 of the training file is nan (expected finite numbers)",
        ),
        (spoiled(3, 9, -np.inf), {}, "data.path: row 3, column 9 of the training file is -inf"),
        (np.ones((50, 4)), {"batch_size": 8}, "all training rows are the same"),
        (np.zeros((9, 5, 8, 8)), {"batch_size": 2}, "input_shape: rows of 5 x 8 x 8 are images of 5 channels"),
    ],
)
def test_bad_data_are_one_line(x: np.ndarray[Any, Any], options: dict[str, Any], message: str) -> None:
    np.save("bad.npy", x)
    np.save("short.npy", DIGITS.target[:50])
    np.save("wide.npy", np.zeros((20, 65)))
    with pytest.raises(ConfigError) as error:
        Arrays(path="bad.npy", **options).inspect()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_values_of_another_file_that_are_not_finite_are_told_under_its_key() -> None:
    np.save("test.npy", spoiled(2, 1, np.inf)[:5])
    with pytest.raises(ConfigError, match=r"^data\.test_path: row 2, column 1 of the test file is inf \(expected"):
        Arrays(path="x.npy", test_path="test.npy").inspect()


def test_a_path_is_required() -> None:
    with pytest.raises(ConfigError, match="path: is required"):
        Arrays()


def test_the_same_string_is_the_same_class_in_every_file() -> None:
    np.save("few_x.npy", DIGITS.data[:2].astype(np.float32))
    np.save("few.npy", np.array(["dog", "cat"]))
    np.save("many.npy", np.resize(["ant", "cat", "dog"], len(DIGITS.data)))
    data = Arrays(path="x.npy", labels="many.npy", test_path="few_x.npy", test_labels="few.npy")
    classes = data.split("train").label
    assert classes is not None
    assert classes.unique().tolist() == [0, 1, 2]
    assert data.split("test").label.tolist() == [2, 1]
    np.save("numbers.npy", np.array([3, 1]))
    with pytest.raises(
        ConfigError, match=r"^test_labels=numbers\.npy: numbers, where those of other files are strings$"
    ):
        Arrays(path="x.npy", labels="many.npy", test_path="few_x.npy", test_labels="numbers.npy")


def test_labels_of_shards_are_in_them_or_in_shards_of_their_own(tmp_path: Path) -> None:
    for folder in ("both", "labels"):
        (tmp_path / folder).mkdir()
    for number, part in enumerate(np.array_split(np.arange(1797), 11)):
        np.savez(f"both/{number}.npz", x=DIGITS.data[part], y=DIGITS.target[part])
        np.save(f"labels/{number}.npy", DIGITS.target[part])
    for labels in ("y", "labels"):
        data = Arrays(path="both", key="x", labels=labels)
        by_row = dict(zip(map(tuple, DIGITS.data.tolist()), DIGITS.target.tolist(), strict=True))
        for name in ("train", "val", "test"):
            assert [by_row[tuple(row)] for row in rows(data, name).tolist()] == data.split(name).label.tolist()
    np.save("labels/3.npy", DIGITS.target[:100])
    np.save("labels/4.npy", DIGITS.target[:227])  # as many in all
    with pytest.raises(ConfigError, match=r"^labels=labels: 3\.npy has 100 values, and 3\.npz of the rows 164"):
        Arrays(path="both", key="x", labels="labels")


def test_files_are_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra may change the folder once a job is built."""
    np.save("y.npy", DIGITS.target)
    data = Arrays(path="x.npy", labels="y.npy", root="cache", content="01")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    data.inspect()
    assert len(data.split("test").rows) == 180
    assert list((tmp_path / "cache" / "moments").iterdir())


def test_moments_that_cannot_be_kept_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("no folder")
    data = Arrays(path="x.npy", root=str(tmp_path / "cache"), content="01")
    with caplog.at_level("INFO"):
        data.inspect()
    assert re.search(r"moments/\w+: cannot be written \(.*\); the data will be read again$", caplog.text.strip())


def test_moments_of_one_column_are_kept(tmp_path: Path) -> None:
    np.save("column.npy", DIGITS.data[:, 20:21])
    first, again = (
        Arrays(path="column.npy", root=str(tmp_path / "cache"), content="01", normalize="whiten") for _ in range(2)
    )
    assert torch.equal(first.first("test", 5), again.first("test", 5))


def test_a_class_for_every_row_is_a_doubt() -> None:
    np.save("ids.npy", np.arange(1797))
    (doubt,) = Arrays(path="x.npy", labels="ids.npy").doubts
    assert doubt == "data.labels=ids.npy has a class for every row; are these labels?"
