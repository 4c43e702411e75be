"""One run from the command line, on real MNIST: what it learns, writes and prints."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import sparse_ae
from sparse_ae.metrics import NAMES, CodeMetrics, evaluate
from sparse_ae.models import build_autoencoder
from sparse_ae.run.directory import Run
from tests.helpers import CONF, SMALL, Cli, mnist, run_command

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
LEARNS = ["model=linear", "sparsity=l1", "trainer.max_epochs=3", "trainer.limit_train_batches=40"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Iterator[tuple[Path, str]]:
    """The working directory and the output of a command that trained for three epochs on a few thousand images."""
    folder = tmp_path_factory.mktemp("learned")
    outcome = run_command(folder, "sparse-ae-train", *LEARNS)
    assert outcome.code == 0, outcome.err
    return folder, outcome.out


def only_run(folder: Path) -> Run:
    """The one run of the default experiment."""
    (path,) = (folder / "outputs" / "default").iterdir()
    return Run(path)


def test_name_of_run(learned: tuple[Path, str]) -> None:
    assert re.fullmatch(r"l1-w0\.01-n128-s42-[0-9a-f]{8}", only_run(learned[0]).path.name)


def test_files_of_run(learned: tuple[Path, str]) -> None:
    folder = only_run(learned[0]).path
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
    assert {p.name for p in learned[0].iterdir()} == {"outputs"}


def test_training_learns(learned: tuple[Path, str]) -> None:
    """The same network untrained does not come near."""
    run = only_run(learned[0])
    metrics, config = run.metrics, run.config
    assert metrics.keys() >= {f"{split}/{name}" for split in ("val", "test") for name in NAMES}
    assert metrics["test/fvu"] < 0.25
    data = mnist()
    untrained = build_autoencoder(config["model"], config["sparsity"], input_dim=784)
    scores = CodeMetrics(mean=data.train_mean, latent_dim=128, threshold=0.1)
    assert evaluate(untrained, data.test_dataloader(), scores)["fvu"] > 0.8


def test_metrics_are_those_of_exported_model(learned: tuple[Path, str]) -> None:
    """One plain pass over the test images."""
    run = only_run(learned[0])
    model, x = sparse_ae.load(run.path), mnist().first("test", 10_000)
    with torch.no_grad():
        z = model.encode(x)
        mse = (model.decode(z) - x).double().square().mean().item()
    assert run.metrics["test/mse"] == pytest.approx(mse, rel=1e-5)
    assert run.metrics["test/l0"] == pytest.approx((z != 0).sum(dim=1).double().mean().item(), rel=1e-6)
    assert json.loads((run.path / "analysis/overview/result.json").read_text())["samples"] == 10_000


def test_summary(learned: tuple[Path, str]) -> None:
    """The numbers, and where to look."""
    folder, out = learned
    names = ("MSE", "FVU", "L0", "population sparsity", "inactive units", "dead units", "tensorboard")
    for text in (*names, only_run(folder).path.name):
        assert text in out


def test_command_again(learned: tuple[Path, str]) -> None:
    """A finished run is left alone, and its summary printed again."""
    folder, out = learned
    name = only_run(folder).path.name
    again = run_command(folder, "sparse-ae-train", *LEARNS)
    assert again.code == 0
    assert again.out.startswith(f"outputs/default/{name}: already finished; rerun=all retrains it\n")
    assert again.out.endswith(out[out.index(name) :])


def test_rerun_gives_same_bytes(cli: Cli, tmp_path: Path, finished_run: Path) -> None:
    """A run made before, in another folder; one made now; and that one retrained."""
    weights = tmp_path / "run" / "model.safetensors"
    for rerun in ([], ["rerun=all"]):
        assert cli("sparse-ae-train", *SMALL, "sparsity=l1", *rerun, "hydra.run.dir=run").code == 0
        assert weights.read_bytes() == (finished_run / "model.safetensors").read_bytes()
        assert Run(tmp_path / "run").metrics == Run(finished_run).metrics
    assert Run(tmp_path / "run").status.attempts == 2


IDENTITY = "data.transforms=[{_target_: torch.nn.Identity}]"
"""A transform, and so a DataLoader."""


@pytest.mark.slow
def test_data_loader_gives_same_bytes(cli: Cli, tmp_path: Path, finished_run: Path) -> None:
    assert cli("sparse-ae-train", *SMALL, "sparsity=l1", IDENTITY, "hydra.run.dir=run").code == 0
    assert (tmp_path / "run/model.safetensors").read_bytes() == (finished_run / "model.safetensors").read_bytes()


def test_finished_run_gets_missing_analyses(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    shutil.rmtree(run_copy / "analysis" / "overview")
    (run_copy / "report.html").unlink()
    before = Run(run_copy).status
    assert cli("sparse-ae-train", "sparsity=l1", *SMALL, "analysis=[overview]", "hydra.run.dir=run").code == 0
    assert (run_copy / "analysis" / "overview" / "features.png").exists()
    assert "overview: features" in (run_copy / "report.html").read_text()
    assert Run(run_copy).status == before


def test_without_validation(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-train", *SMALL, "data.val_size=0", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "data.val_size=0: no validation metrics and no best.ckpt" in outcome.out
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert not any(name.startswith("val/") for name in Run(tmp_path / "run").metrics)


def test_validation_of_final_weights(cli: Cli, tmp_path: Path) -> None:
    """Training that ends between two validations is validated once more."""
    outcome = cli("sparse-ae-train", *SMALL, "trainer.max_steps=25", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    before = Run(tmp_path / "run").metrics["val/mse"]
    assert cli("sparse-ae-evaluate", "run=run", "split=val").code == 0
    assert Run(tmp_path / "run").metrics["val/mse"] == pytest.approx(before, rel=1e-6)


def test_no_best_checkpoint_without_validation(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-train", *SMALL, "+trainer.val_check_interval=15", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "no best.ckpt" in outcome.out
    assert not Run(tmp_path / "run").best_checkpoint.exists()


def test_line_of_epoch(cli: Cli, tmp_path: Path) -> None:
    limits = ["trainer.max_epochs=1", "trainer.limit_train_batches=7", "trainer.log_every_n_steps=5"]
    outcome = cli("sparse-ae-train", *limits, "data.val_size=0", "hydra.run.dir=run", "analysis=[]")
    line = next(line for line in outcome.out.splitlines() if line.startswith("epoch 1/1"))
    assert f"train/loss {Run(tmp_path / 'run').metrics['train/loss']:.4g}" in line


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment(cli: Cli, experiment: str, language_model: Path) -> None:
    own = [f"data.model={language_model / 'MODEL'}", f"data.text={language_model / 'corpus'}"]
    needed = own if experiment == "activations" else []
    outcome = cli("sparse-ae-train", f"experiment={experiment}", "trainer.fast_dev_run=true", "analysis=[]", *needed)
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
        pytest.param(["trainer.precision=bf16-true"], marks=pytest.mark.slow),
        pytest.param(["trainer.precision=64-true"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_options_together(cli: Cli, overrides: list[str]) -> None:
    outcome = cli("sparse-ae-train", *SMALL, *overrides)
    assert outcome.code == 0, outcome.err
