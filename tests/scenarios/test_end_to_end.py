"""The commands on real MNIST: train, look, stop, go on, evaluate, analyse, sweep."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

import sparse_ae
from sparse_ae.data import to_unit_interval
from sparse_ae.metrics import NAMES, CodeMetrics, evaluate
from sparse_ae.models import build_autoencoder
from sparse_ae.runs.directory import Run
from tests.helpers import CONF, SMALL, Cli, mnist
from tests.processes import command

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
ANALYSES = ("sparsity", "features", "selectivity", "truncation", "importance", "similarity", "reconstructions")
LEARNS = ["model=linear", "sparsity=l1", "trainer.max_epochs=3", "trainer.limit_train_batches=40"]


def test_three_epochs_on_a_few_thousand_images_learn_what_an_untrained_model_cannot(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-train", *LEARNS)
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "outputs" / "default").iterdir()
    run = Run(folder)
    assert re.fullmatch(r"l1-w0\.01-n128-s42-[0-9a-f]{8}", folder.name)

    # The run directory is what DESIGN says, and nothing else was written.
    files = {str(p.relative_to(folder)).split("tfevents")[0] for p in folder.rglob("*") if p.is_file()}
    assert files == {
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
        ".hydra/hydra.yaml",
        "status.json",
        "metrics.json",
        ".lock",
        "model.json",
        "model.safetensors",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        "checkpoints/best.ckpt",
        "events.out.",
        "analysis/overview/result.json",
        "analysis/overview/sparsity.png",
        "analysis/overview/features.png",
        "analysis/overview/reconstructions.png",
        "report.html",
    }
    assert {p.name for p in tmp_path.iterdir()} == {"outputs"}

    # It learned: the same network untrained does not come near.
    metrics = run.metrics
    assert metrics.keys() >= {f"{split}/{name}" for split in ("val", "test") for name in NAMES}
    assert metrics["test/fvu"] < 0.25
    data = mnist()
    config = run.config
    untrained = build_autoencoder(config["model"], config["sparsity"], input_dim=784)
    scores = CodeMetrics(mean=data.train_mean, latent_dim=128, threshold=0.1)
    assert evaluate(untrained, data.test_dataloader(), scores)["fvu"] > 0.8

    # What the metrics say is what the exported model does, in one plain pass over the test images.
    model, x = sparse_ae.load(folder), to_unit_interval(data.split("test").x)
    with torch.no_grad():
        z = model.encode(x)
        mse = (model.decode(z) - x).double().square().mean().item()
    assert metrics["test/mse"] == pytest.approx(mse, rel=1e-5)
    assert metrics["test/l0"] == pytest.approx((z != 0).sum(dim=1).double().mean().item(), rel=1e-6)
    assert json.loads((folder / "analysis/overview/result.json").read_text())["samples"] == 10_000

    # The summary names the numbers and where to look.
    for text in (
        "MSE",
        "FVU",
        "L0",
        "population sparsity",
        "inactive units",
        "dead units",
        folder.name,
        "tensorboard",
    ):
        assert text in outcome.out

    again = cli("sparse-ae-train", *LEARNS)
    assert again.code == 0
    assert again.out.startswith(f"outputs/default/{folder.name}: finished already; rerun=all makes it again\n")
    assert again.out.endswith(outcome.out[outcome.out.index(folder.name) :])  # the same summary


def test_the_same_command_gives_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert cli("sparse-ae-train", *SMALL, f"hydra.run.dir={name}").code == 0
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert Run(tmp_path / "a").metrics == Run(tmp_path / "b").metrics
    assert cli("sparse-ae-train", *SMALL, "hydra.run.dir=b", "rerun=all").code == 0
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_how_the_data_are_kept_does_not_change_the_result(cli: Cli, tmp_path: Path, finished_run: Path) -> None:
    assert cli("sparse-ae-train", *SMALL, "sparsity=l1", "data.resident=false", "hydra.run.dir=run").code == 0
    assert (tmp_path / "run/model.safetensors").read_bytes() == (finished_run / "model.safetensors").read_bytes()


def test_evaluate_agrees_with_training_and_names_what_differs(cli: Cli, run_copy: Path) -> None:
    run = Run(run_copy)
    before = run.metrics
    for split in ("val", "test"):
        outcome = cli("sparse-ae-evaluate", "run=run", f"split={split}")
        assert outcome.code == 0, outcome.err
        assert "FVU" in outcome.out
    for name, value in run.metrics.items():
        assert value == pytest.approx(before[name], rel=1e-6), name

    outcome = cli("sparse-ae-evaluate", "run=run", "weights=best", "active_threshold=0.5")
    assert outcome.code == 0, outcome.err
    after = run.metrics
    assert after["test/population_sparsity"] == pytest.approx(before["test/population_sparsity"], rel=1e-6)
    assert after["best-0.5/test/population_sparsity"] < before["test/population_sparsity"]


def test_analyse_does_again_what_training_did(cli: Cli, run_copy: Path) -> None:
    result = run_copy / "analysis" / "overview" / "result.json"
    before = result.read_text()
    result.unlink()
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=[overview]")
    assert outcome.code == 0, outcome.err
    assert result.read_text() == before
    figures = [f"run/analysis/overview/{name}.png" for name in ("sparsity", "features", "reconstructions")]
    assert outcome.out.split() == [*figures, "run/report.html"]


def test_everything_that_is_found_is_in_the_run_in_tensorboard_and_on_the_page(cli: Cli, run_copy: Path) -> None:
    for again in ([], ["analysis=[similarity]"]):  # the second time replaces the first
        outcome = cli("sparse-ae-analyse", "run=run", "svg=true", *again)
        assert outcome.code == 0, outcome.err
    run = Run(run_copy)
    assert set(run.analyses) == {*ANALYSES, "overview"}
    page = (run_copy / "report.html").read_text()
    events = EventAccumulator(str(run_copy), size_guidance={"images": 0})
    events.Reload()
    for name in ANALYSES:
        figures = run.figures_of(name)
        assert figures
        assert {path.with_suffix(".svg") for path in figures} == set((run_copy / "analysis" / name).glob("*.svg"))
        assert f'<h2 id="{name}">' in page
        for path in figures:
            (image,) = events.Images(f"analysis/{name}/{path.stem}")
            assert image.encoded_image_string == path.read_bytes()
    with np.load(run_copy / "analysis/sparsity/arrays.npz") as arrays:
        assert arrays["lifetime_sparsity"].mean() == pytest.approx(run.metrics["test/lifetime_sparsity"], rel=1e-5)
    (embedding,) = text_format.Parse((run_copy / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    vectors, labels = ((run_copy / path).read_text() for path in (embedding.tensor_path, embedding.metadata_path))
    assert len(vectors.splitlines()) == len(labels.splitlines())
    assert list(embedding.sprite.single_image_dim) == [28, 28]
    with Image.open(run_copy / embedding.sprite.image_path) as sprite:
        assert sprite.size == (28 * math.ceil(len(labels.splitlines()) ** 0.5),) * 2


def test_a_finished_run_gets_the_analyses_that_it_lacks(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    shutil.rmtree(run_copy / "analysis" / "overview")
    (run_copy / "report.html").unlink()
    before = Run(run_copy).status
    assert cli("sparse-ae-train", "sparsity=l1", *SMALL, "hydra.run.dir=run").code == 0
    assert (run_copy / "analysis" / "overview" / "features.png").exists()
    assert "overview: features" in (run_copy / "report.html").read_text()
    assert Run(run_copy).status == before


def test_one_analysis_with_an_option(cli: Cli, run_copy: Path) -> None:
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=[features]", "analysis.features.n_features=5")
    assert outcome.code == 0, outcome.err
    assert json.loads((run_copy / "analysis/features/result.json").read_text())["shown"] == 5


def test_other_weights_and_thresholds_are_kept_apart(cli: Cli, run_copy: Path) -> None:
    own = {path: path.read_bytes() for path in run_copy.glob("analysis/*/*")}
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=sparsity,overview", "weights=best", "active_threshold=0.5")
    assert outcome.code == 0, outcome.err
    assert {path: path.read_bytes() for path in own} == own
    assert json.loads((run_copy / "analysis/sparsity-best-0.5/result.json").read_text())["threshold"] == 0.5


def test_without_validation(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-train", *SMALL, "data.val_size=0", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "data.val_size=0: no validation metrics and no best.ckpt" in outcome.out
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert not any(name.startswith("val/") for name in Run(tmp_path / "run").metrics)


def test_final_validation_metrics_are_of_the_final_weights(cli: Cli, tmp_path: Path) -> None:
    """Training that ends between two validations is validated once more."""
    outcome = cli("sparse-ae-train", *SMALL, "trainer.max_steps=25", "hydra.run.dir=run", "analysis=[]")
    assert outcome.code == 0, outcome.err
    before = Run(tmp_path / "run").metrics["val/mse"]
    assert cli("sparse-ae-evaluate", "run=run", "split=val").code == 0
    assert Run(tmp_path / "run").metrics["val/mse"] == pytest.approx(before, rel=1e-6)


def test_an_epoch_that_ends_without_a_validation_is_not_the_best(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-train", *SMALL, "+trainer.val_check_interval=15", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "no best.ckpt" in outcome.out
    assert not Run(tmp_path / "run").best_checkpoint.exists()


def test_an_epochs_line_shows_that_epoch(cli: Cli, tmp_path: Path) -> None:
    limits = ["trainer.max_epochs=1", "trainer.limit_train_batches=7", "trainer.log_every_n_steps=5"]
    outcome = cli("sparse-ae-train", *limits, "data.val_size=0", "hydra.run.dir=run", "analysis=[]")
    line = next(line for line in outcome.out.splitlines() if line.startswith("epoch 1/1"))
    assert f"train/loss {Run(tmp_path / 'run').metrics['train/loss']:.4g}" in line


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(cli: Cli, experiment: str) -> None:
    outcome = cli("sparse-ae-train", f"experiment={experiment}", "trainer.fast_dev_run=true", "analysis=[]")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer=debug"],
        [
            "model=linear",
            "model.tied=true",
            "model.b_pre=geometric_median",
            "sparsity=l1",
            "sparsity.atom_norm=true",
        ],
        ["sparsity=none", "model=linear", "optimizer=sgd", "optimizer.lr=0.01", "scheduler=warmup_linear"],
        ["sparsity.reduction=sum", "optimizer=adamw", "scheduler=cosine"],
        ["trainer.precision=bf16-mixed", "trainer.deterministic=true", "trainer=cpu"],
        ["trainer.precision=bf16-true"],
        ["trainer.precision=64-true"],
    ],
    ids=" ".join,
)
def test_options_go_together(cli: Cli, overrides: list[str]) -> None:
    outcome = cli("sparse-ae-train", *SMALL, *overrides)
    assert outcome.code == 0, outcome.err


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """Distributed on the CPU: each rank its share, exact metrics, one set of files."""
    resampling = ["dead=resample", "dead.every_epochs=1", "dead.window_epochs=0.01", "dead.until=1"]
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=run", *SMALL]
    process = command(tmp_path, *ddp, "sparsity=batch_topk", "sparsity.k=1", "model=linear", *resampling)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("epoch 1/2") == 1
    assert "error" not in err
    run = Run(tmp_path / "run")
    assert run.status.state == "finished"
    assert run.metrics["train/revived_units"] > 0
    data = mnist()
    scores = CodeMetrics(mean=data.train_mean, latent_dim=128, threshold=0.1)
    alone = evaluate(sparse_ae.load(tmp_path / "run"), data.test_dataloader(), scores)
    for name, value in alone.items():
        assert run.metrics[f"test/{name}"] == pytest.approx(value, rel=1e-6), name


def test_help_and_its_kin_do_not_import_torch(tmp_path: Path) -> None:
    for program in ("train", "evaluate", "analyse", "report"):
        code = (
            f"import sys\nsys.argv = ['{program}', '--help']\nfrom sparse_ae.{program} import main\n"
            "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
            "assert not {'torch', 'lightning', 'matplotlib', 'tensorboard'} & sys.modules.keys()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("--into" if program == "report" else "active_threshold") in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_runs_from_any_folder(tmp_path: Path, data_root: Path) -> None:
    root = Path(sparse_ae.__file__).parent.parent
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    wheels, site, elsewhere = tmp_path / "wheels", tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    build = [
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(wheels),
        str(root),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import sparse_ae; print(sparse_ae.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True)
    assert found.stdout.startswith(str(site))
    train = [sys.executable, "-m", "sparse_ae.train", *SMALL]
    done = subprocess.run(train, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "FVU" in done.stdout
    report = [sys.executable, "-m", "sparse_ae.report", "outputs/default"]
    done = subprocess.run(report, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "outputs" / "default" / "report.html").exists()
