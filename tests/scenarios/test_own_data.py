"""A user's own arrays from end to end: sweep to a target, probe, report, Python; from other folders, and changed."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import sparse_ae
from sparse_ae.analysis.loading import read_run
from sparse_ae.run.directory import Run
from tests.helpers import run_command

DIGITS = load_digits()
OPTIONS = [
    *("data=arrays", "data.path=digits.npz", "data.key=x", "data.labels=y", "data.batch_size=64"),
    *("model=linear", "model.latent_dim=32", "target=l0", "target.value=6", "optimizer.lr=5e-3"),
    *("trainer.max_epochs=6", "trainer.enable_progress_bar=false", "visuals.every_n_epochs=6", "analysis=[]"),
]
QUICK = ["classifiers=[logistic]", "labels_per_class=[]", "c=[10]", "n_choose=100"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder with scikit-learn's digits as integers with labels, and what two methods learned of them."""
    folder = tmp_path_factory.mktemp("digits")
    np.savez(folder / "digits.npz", x=DIGITS.data.astype(np.uint8), y=DIGITS.target)
    outcome = run_command(folder, "sparse-ae-train", "-m", *OPTIONS, "sparsity=topk,l1")
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    return folder


def _runs(folder: Path) -> dict[str, Run]:
    return {path.parent.name.split("-")[0]: Run(path.parent) for path in folder.glob("outputs/default/*/status.json")}


def test_every_run_says_whether_its_target_is_met(swept: Path) -> None:
    runs = _runs(swept)
    assert set(runs) == {"topk", "l1"}
    assert runs["topk"].metrics["val/l0"] == 6
    for run in runs.values():
        assert run.status.target is not None
        assert run.status.target["met"] == (abs(run.metrics["val/l0"] / 6 - 1) <= 0.05)


@pytest.mark.parametrize("method", ["topk", "l1"])
def test_the_model_takes_and_gives_the_unit_of_the_file(swept: Path, method: str) -> None:
    """The metrics are those of rows as they are in the file, by NumPy."""
    run = _runs(swept)[method]
    data = read_run(run, weights="final", threshold=None, device="cpu").data
    train, test = (data.split(name).rows for name in ("train", "test"))
    x, mean = test.read(0, len(test)), train.read(0, len(train)).numpy().mean(axis=0, dtype=np.float64)
    assert x.dtype == torch.uint8
    coder = sparse_ae.load(run.path)
    with torch.inference_mode():
        z = coder.encode(x)
        error = (coder.decode(z).numpy().astype(np.float64) - x.numpy()) ** 2
    assert run.metrics["test/mse"] == pytest.approx(error.mean(), rel=1e-5)
    assert run.metrics["test/fvu"] == pytest.approx(error.sum() / ((x.numpy() - mean) ** 2).sum(), rel=1e-5)
    assert run.metrics["test/l0"] == pytest.approx(float((z != 0).sum(dim=1).double().mean()))


def test_all_rows_of_another_file_are_evaluated(swept: Path) -> None:
    run = _runs(swept)["topk"]
    x = DIGITS.data[:50].astype(np.uint8)  # fewer than a training batch
    np.save(swept / "others.npy", x)
    others = ["data=arrays", "data.path=others.npy"]
    outcome = run_command(swept, "sparse-ae-evaluate", f"run={run.path}", *others, "split=all")
    assert (outcome.code, outcome.err) == (0, "")
    assert "50 of 50 rows" in outcome.out
    coder = sparse_ae.load(run.path)
    with torch.inference_mode():
        error = (coder.decode(coder.encode(torch.from_numpy(x))).double().numpy() - x) ** 2
    assert run.metrics["Arrays/all/mse"] == pytest.approx(error.mean(), rel=1e-5)


def test_what_to_run_next_is_on_the_same_data(tmp_path: Path, data_root: Path) -> None:
    np.save(tmp_path / "my x.npy", np.random.default_rng(0).random((300, 9), dtype=np.float32))
    same = ["data=arrays", 'data.path="my x.npy"', "trainer.max_epochs=1", "analysis=[]"]
    outcome = run_command(tmp_path, "sparse-ae-train", *same, "trainer.enable_progress_bar=false")
    assert outcome.code == 0, outcome.err
    line = next(line for line in outcome.out.splitlines() if line.startswith("next:"))
    words = shlex.split(line.removeprefix("next:"))
    assert words[:5] == ["sparse-ae-train", "-m", *same[:2], "seed=1,2"]


def test_probe_and_report_from_another_folder(swept: Path, tmp_path: Path) -> None:
    quick = [f"analysis.probe.{option}" for option in QUICK]
    outcome = run_command(tmp_path, "sparse-ae-analyse", f"run={swept}/outputs/default", "analysis=[probe]", *quick)
    assert outcome.code == 0, outcome.err
    outcome = run_command(tmp_path, "sparse-ae-report", str(swept / "outputs/default"))
    assert outcome.code == 0, outcome.err
    rows = csv.DictReader((swept / "outputs/default/summary.csv").read_text().splitlines())
    assert {row["sparsity"] for row in rows} == {"topk", "l1"}
    for run in _runs(swept).values():
        found = json.loads((run.path / "analysis/probe/result.json").read_text())
        assert found["samples"] == {"train": 1437, "val": 180, "test": 180}
        assert found["logistic_error"] < 0.2  # 0.9 by chance, as with labels of other rows


@pytest.fixture
def moved(swept: Path, tmp_path: Path) -> Path:
    """One of the runs in a folder with a copy of its data."""
    shutil.copytree(_runs(swept)["topk"].path, tmp_path / "run")
    shutil.copy(swept / "digits.npz", tmp_path)
    config = tmp_path / "run" / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace(str(swept), str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize("command", ["sparse-ae-evaluate", "sparse-ae-analyse"])
def test_other_contents_at_the_path_are_refused(moved: Path, command: str) -> None:
    """Their rows would be split and compared as if the model had been trained on them."""
    before = Run(moved / "run").metrics
    np.savez(moved / "digits.npz", x=DIGITS.data.astype(np.uint8)[::-1], y=DIGITS.target)
    outcome = run_command(moved, command, "run=run")
    assert outcome.code == 1
    assert f"data.path={moved}/digits.npz: its contents have changed since the run was trained" in outcome.err
    assert Run(moved / "run").metrics == before
    if command == "sparse-ae-evaluate":
        other = ["data=arrays", "data.path=digits.npz", "data.key=x", "data.val_path=digits.npz", "data.val_size=0"]
        outcome = run_command(moved, command, "run=run", "split=val", *other)
        assert outcome.code == 0, outcome.err
        assert "Arrays/val/mse" in Run(moved / "run").metrics
