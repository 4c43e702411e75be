"""Classical coders as runs: every command treats them like autoencoders."""

import json
import random
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA as ReferencePCA
from sklearn.linear_model import orthogonal_mp_gram

import sparse_ae
from sparse_ae.coders import OMP, L1Coder
from sparse_ae.reporting.curves import read_curves
from sparse_ae.run.directory import Run
from sparse_ae.run.export import load
from tests.events import logged
from tests.helpers import Cli, mnist, train_run
from tests.processes import start, wait_until

FEW = ["data.val_size=59000", "analysis=[]", "threads=1"]
"""A thousand images to learn from."""
SMALL = ["coder.latent_dim=24", "coder.n_nonzero=3", *FEW]
KSVD = ["coder=ksvd", "coder.epochs=3", "logger=[tensorboard,csv]", *SMALL]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "run"
    process = start(folder, *KSVD, "analysis=[overview]", config="fit")
    process.join()
    assert process.exitcode == 0
    return folder


def test_every_command_takes_it(fitted: Path, cli: Cli) -> None:
    Run.open(fitted)
    before = json.loads((fitted / "metrics.json").read_text())
    outcome = cli("sparse-ae-evaluate", f"run={fitted}")
    assert outcome.code == 0, outcome.err
    assert "dead units" in outcome.out
    assert json.loads((fitted / "metrics.json").read_text()) == pytest.approx(before, rel=1e-6)
    outcome = cli("sparse-ae-analyse", f"run={fitted}", "analysis=features,selectivity,similarity,truncation")
    assert outcome.code == 0, outcome.err
    assert (fitted / "analysis" / "features" / "result.json").is_file()
    outcome = cli("sparse-ae-evaluate", f"run={fitted}", "weights=best")
    assert outcome.code == 1
    assert f"weights=best: {fitted} is a classical coder's (expected final)" in outcome.err


def test_its_metrics_are_those_of_the_codes_that_scikit_learn_finds(fitted: Path) -> None:
    coder = sparse_ae.load(fitted)
    assert isinstance(coder, OMP)
    data = mnist(val_size=59000)
    x = data.first("test", 10_000)
    atoms, centred = coder.dictionary.double(), (x - coder.mean).double()
    torch.testing.assert_close(coder.mean, data.train_mean)
    z = orthogonal_mp_gram((atoms @ atoms.T).numpy(), (atoms @ centred.T).numpy(), n_nonzero_coefs=3)
    error = np.square(centred.numpy() - z.T @ atoms.numpy()).sum() / centred.square().sum()
    assert Run(fitted).metrics["test/fvu"] == pytest.approx(float(error), rel=1e-4)
    assert Run(fitted).metrics["test/l0"] == pytest.approx(float((z != 0).sum(axis=0).mean()))
    curves = read_curves(Run(fitted), ["train/fvu", "val/mse", "test/fvu"])
    assert curves["train/fvu"].step.tolist() == [1, 2, 3]
    assert float(curves["test/fvu"].value[0]) == pytest.approx(Run(fitted).metrics["test/fvu"], rel=1e-6)


def test_pca_against_scikit_learn(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-fit", "coder=pca", "coder.latent_dim=12", "hydra.run.dir=run", *FEW)
    assert outcome.code == 0, outcome.err
    data = mnist(val_size=59000)
    train, test = (data.first(split, 60_000).double().numpy() for split in ("train", "test"))
    pca = ReferencePCA(12, svd_solver="full").fit(train)
    error = np.square(pca.inverse_transform(pca.transform(test)) - test).sum()
    fvu = error / np.square(test - train.mean(axis=0)).sum()
    assert Run(tmp_path / "run").metrics["test/fvu"] == pytest.approx(fvu, rel=1e-4)


@pytest.mark.parametrize("algorithm", ["fista", pytest.param("ista", marks=pytest.mark.slow)])
def test_other_codes_on_the_atoms_of_a_run(
    fitted: Path, finished_run: Path, cli: Cli, tmp_path: Path, algorithm: str
) -> None:
    folder = tmp_path / "linear"
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=5", "analysis=[]"]
    model = load(train_run(folder, "model=linear", "sparsity=topk", "sparsity.k=3", "model.latent_dim=24", *short))
    outcome = cli("sparse-ae-fit", "coder=omp", f"coder.run={folder}", "coder.n_nonzero=3", "hydra.run.dir=omp", *FEW)
    assert outcome.code == 0, outcome.err
    searched = load(tmp_path / "omp")
    assert Run(tmp_path / "omp").status.fit_seconds is None
    x = mnist().first("test", 500)
    assert torch.equal(searched.dictionary, model.dictionary)
    codes = OMP(model.dictionary.detach(), 3, mean=model.decode(torch.zeros(1, 24))[0].detach()).encode(x)
    torch.testing.assert_close(searched.encode(x), codes)

    arguments = [f"coder={algorithm}", f"coder.run={fitted}", "coder.penalty=0.3", "hydra.run.dir=l1"]
    assert cli("sparse-ae-fit", *arguments, *FEW).code == 0
    coder = load(tmp_path / "l1")
    assert isinstance(coder, L1Coder)
    assert coder.momentum == (algorithm == "fista")
    assert 0 < Run(tmp_path / "l1").metrics["test/l0"] < 24

    outcome = cli("sparse-ae-fit", "coder=omp", f"coder.run={finished_run}", *FEW)
    assert outcome.code == 1
    assert "MLP's decoder is not a dictionary (expected a run with a linear decoder)" in outcome.err


@pytest.mark.slow
def test_killed_and_continued_it_is_the_same_run(fitted: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, SIGTERM once; each attempt a process of its own."""
    overrides = [*KSVD, "coder.epochs=12"]
    whole, half = Run(tmp_path / "whole"), Run(tmp_path / "half")
    start(whole.path, *overrides, config="fit").join()
    moments = random.Random(0)
    for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        attempts = half.status.attempts
        process = start(half.path, *overrides, config="fit")
        wait_until(lambda: half.status.attempts > attempts)  # noqa: B023
        process.join(moments.uniform(0, whole.status.wall_seconds / 3))
        if process.exitcode is None:
            process.terminate() if signum == signal.SIGTERM else process.kill()
        process.join()
    start(half.path, *overrides, config="fit").join()
    assert half.read_state() == whole.read_state() == "finished"
    assert half.weights.read_bytes() == whole.weights.read_bytes()
    assert half.metrics == whole.metrics
    assert logged(half.path) == logged(whole.path)
    assert half.metrics_table.read_bytes() == whole.metrics_table.read_bytes()


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(fitted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(fitted, copy)
    for name in ("metrics.json", "model.safetensors"):
        (copy / name).unlink()  # so that it has not come to its end
    (copy / "checkpoints" / "last.ckpt").write_bytes(b"")
    process = start(copy, *KSVD, config="fit")
    process.join()
    assert Run(copy).read_state() == "finished"
    assert Run(copy).weights.read_bytes() == (fitted / "model.safetensors").read_bytes()
    assert "the checkpoint before it is used" in (copy / "train.log").read_text()


@pytest.mark.slow
def test_analyses_that_compare_take_it_too(fitted: Path, cli: Cli) -> None:
    pca = ["coder=pca", "coder.latent_dim=6", "data.val_size=0", "analysis=[]", "hydra.run.dir=pca", "threads=1"]
    assert cli("sparse-ae-fit", *pca).code == 0
    assert not any(name.startswith("val/") for name in Run("pca").metrics)
    options = ["analysis=stability,robustness,amortisation", f"analysis.stability.runs=[{fitted}]"]
    options += [f"analysis.robustness.against=[{fitted}]", "analysis.robustness.n_samples=50"]
    outcome = cli("sparse-ae-analyse", "run=pca", *options)
    assert outcome.code == 0, outcome.err
    assert Run("pca").read_analysis("stability")["pairs"][0]["matched"] == 6
    assert Run("pca").read_analysis("amortisation")["gap"] == pytest.approx(0, abs=1e-4)  # orthonormal atoms, all used


def test_recoding_is_named_by_the_weights_and_not_by_their_path(fitted: Path, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(fitted, tmp_path / "source")
    omp = ["coder=omp", "coder.n_nonzero=2", *FEW]
    assert cli("sparse-ae-fit", *omp, "coder.run=source", "hydra.job.chdir=true").code == 0
    assert "already finished" in cli("sparse-ae-fit", *omp, f"coder.run={tmp_path / 'source'}").out
    weights = load_file(tmp_path / "source" / "model.safetensors")
    save_file({**weights, "atoms": weights["atoms"].flip(0)}, tmp_path / "source" / "model.safetensors")
    assert cli("sparse-ae-fit", *omp, "coder.run=source").code == 0
    assert len(list((tmp_path / "outputs" / "coders").glob("omp-k2-s42-*"))) == 2
    save_file({**weights, "atoms": weights["atoms"] * 0}, tmp_path / "source" / "model.safetensors")
    outcome = cli("sparse-ae-fit", *omp, "coder.run=source")
    assert outcome.code == 1
    assert "source: its model cannot be read" in outcome.err
    assert "24 of 24 atoms are zero" in outcome.err


@pytest.mark.slow
def test_a_sweep_and_a_report_with_autoencoders(cli: Cli, tmp_path: Path, finished_run: Path) -> None:
    arguments = ["-m", "coder=data_atoms,random_atoms", "coder.n_nonzero=2,5", "coder.latent_dim=16", *FEW]
    outcome = cli("sparse-ae-fit", *arguments)
    assert outcome.code == 0, outcome.err + outcome.out
    assert "4 of 4 runs are finished" in outcome.out
    runs = sorted((tmp_path / "outputs" / "coders").glob("*-n16-*"))
    assert [re.sub(r"-[0-9a-f]{8}$", "", run.name) for run in runs] == [
        f"{coder}-k{k}-n16-s42" for coder in ("data_atoms", "random_atoms") for k in (2, 5)
    ]
    again = cli("sparse-ae-fit", *arguments)
    assert "0 to train" in again.out
    report = cli("sparse-ae-report", "outputs/coders", str(finished_run.parent), "--into", "both")
    assert report.code == 0, report.err
    header, *rows = (tmp_path / "both" / "summary.csv").read_text().splitlines()
    columns = header.split(",")
    assert {"sparsity", "model.latent_dim", "coder.n_nonzero", "test/fvu"} <= set(columns)
    config = columns[1 : columns.index("test/mse")]
    assert set(config) == {"sparsity", "data.val_size", "model.latent_dim", "coder.n_nonzero"}
    cells = [dict(zip(columns, row.split(","), strict=True)) for row in rows]
    assert {cell["sparsity"] for cell in cells} == {"data_atoms", "random_atoms", "l1"}
    assert {cell["model.latent_dim"] for cell in cells} == {"16", "128"}
    assert (tmp_path / "both" / "report" / "fronts.png").is_file()


BAD = [
    (["coder=ksvdd"], r"coder=ksvdd: no such option; did you mean ksvd\?"),
    (
        ["coder=ksvd", "coder.n_nonzero=2000"],
        r"coder\.n_nonzero=2000: more than there are atoms \(expected 1 to latent_dim=1024\)",
    ),
    (["coder=ksvd", "coder.n_nonzero=0"], r"coder\.n_nonzero=0: should be greater than 0"),
    (["coder=ksvd", "coder.epochs=0"], r"coder\.epochs=0: should be greater than 0"),
    (["coder=ksvd", "coder.k=3"], r"coder\.k=3: no such key in coder; "),
    (
        ["coder=pca", "coder.latent_dim=785"],
        r"coder\.latent_dim=785: more components than dimensions \(expected 1 to 784\)",
    ),
    (["coder=omp"], r"coder\.run: is required \(expected a run's folder"),
    (["coder=omp", "coder.run=nowhere"], r"coder\.run=nowhere: no such folder"),
    (
        ["coder=fista", "coder.run={run}", "coder.penalty=-1"],
        r"coder\.penalty=-1.*: should be greater than or equal to 0",
    ),
    (
        ["coder=omp", "coder.run={run}", "coder.n_nonzero=25"],
        r"coder\.n_nonzero=25: more than the run has atoms \(expected 1 to 24\)",
    ),
    (
        ["coder=ksvd", "data.val_size=59500"],
        r"coder\.latent_dim=1024: more atoms than samples that differ from their mean \(expected 1 to 500\)",
    ),
    (["coder=pca", "data.shift=2"], r"data\.shift=2: a coder learns from the images as they are \(expected 0\)"),
    (["data.device=tpu9"], r"data\.device=tpu9: not usable here"),
    (["model=mlp"], r"model=mlp: no such "),
    (["seed=-1"], r"seed=-1: should be greater than or equal to 0"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input(cli: Cli, tmp_path: Path, fitted: Path, arguments: list[str], message: str) -> None:
    outcome = cli("sparse-ae-fit", *(argument.format(run=fitted) for argument in arguments))
    assert outcome.code == 1
    assert re.search(message, outcome.err), outcome.err
    assert outcome.err.startswith("sparse-ae-fit: error: ")
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_atoms_of_other_data_are_refused(cli: Cli, fitted: Path, tmp_path: Path) -> None:
    spec = json.loads((fitted / "model.json").read_text())
    copy = tmp_path / "copy"
    train_run(copy, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "analysis=[]")
    save_file({"atoms": torch.eye(5), "mean": torch.zeros(5)}, copy / "model.safetensors")
    (copy / "model.json").write_text(json.dumps(spec | {"input_shape": [5], "input_dim": 5, "latent_dim": 5}))
    outcome = cli("sparse-ae-fit", "coder=omp", f"coder.run={copy}", "coder.n_nonzero=2", *FEW)
    assert outcome.code == 1
    assert "coder: its atoms have 5 values, and the data 784 (expected the same number)" in outcome.err


@pytest.mark.parametrize("target", ["os.system", "sparse_ae.models.Linear", "sparse_ae.jobs.from_run.omp"])
def test_a_description_cannot_run_code(fitted: Path, tmp_path: Path, target: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("model.safetensors", "status.json"):
        (copy / name).write_bytes((fitted / name).read_bytes())
    (copy / ".hydra").mkdir()
    (copy / ".hydra" / "config.yaml").write_bytes((fitted / ".hydra" / "config.yaml").read_bytes())
    spec = json.loads((fitted / "model.json").read_text())
    spec["coder"]["_target_"] = target
    (copy / "model.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=r"is not a subclass of DictionaryCoder|is not trusted"):
        load(copy)


def test_more_rows_than_memory_holds_are_told_before_they_are_read(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1000, 20), dtype=np.float32))
    free = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    outcome = cli("sparse-ae-fit", "coder=pca", "coder.latent_dim=4", "data=arrays", "data.path=x.npy")
    assert outcome.code == 1
    assert outcome.err == (
        "sparse-ae-fit: error: data: 800 training rows take 0 GiB of memory, and 0 GiB are free (expected a larger "
        "data.val_size, which leaves fewer; sparse-ae-train reads them from disk)\n"
    )
    assert not (tmp_path / "outputs").exists()
