"""``sparse-ae-evaluate`` and ``sparse-ae-analyse`` on a finished run."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from sparse_ae.run.directory import Run
from tests.helpers import SMALL, Cli, run_command, train_run

ANALYSES = ("sparsity", "features", "selectivity", "truncation", "importance", "similarity", "reconstructions")


def test_evaluate(cli: Cli, run_copy: Path) -> None:
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


def test_analyse_repeats_overview(cli: Cli, run_copy: Path) -> None:
    result = run_copy / "analysis" / "overview" / "result.json"
    before = result.read_text()
    result.unlink()
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=[overview]")
    assert outcome.code == 0, outcome.err
    assert result.read_text() == before
    figures = [f"run/analysis/overview/{name}.png" for name in ("sparsity", "features", "reconstructions")]
    first, *paths = outcome.out.splitlines()
    assert first.startswith("overview: MSE (per value): 0.0")
    assert paths == [*figures, "run/report.html"]


def test_analysis_option(cli: Cli, run_copy: Path) -> None:
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=[features]", "analysis.features.n_features=5")
    assert outcome.code == 0, outcome.err
    assert json.loads((run_copy / "analysis/features/result.json").read_text())["shown"] == 5


def test_analyse_other_weights(cli: Cli, run_copy: Path) -> None:
    own = {path: path.read_bytes() for path in run_copy.glob("analysis/*/*")}
    outcome = cli("sparse-ae-analyse", "run=run", "analysis=sparsity,overview", "weights=best", "active_threshold=0.5")
    assert outcome.code == 0, outcome.err
    assert {path: path.read_bytes() for path in own} == own
    assert json.loads((run_copy / "analysis/sparsity-best-0.5/result.json").read_text())["threshold"] == 0.5


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of few units with every analysis of a run alone, the last one twice: the second time replaces the first."""
    folder = tmp_path_factory.mktemp("analysed")
    train_run(folder / "run", "sparsity=l1", "model.latent_dim=12", *SMALL, "analysis=[overview]")
    for again in ([], ["analysis=[similarity]"]):
        outcome = run_command(folder, "sparse-ae-analyse", "run=run", "svg=true", *again)
        assert outcome.code == 0, outcome.err
    return Run(folder / "run")


def test_analyse_default(analysed: Run) -> None:
    assert set(analysed.analyses) == {*ANALYSES, "overview"}


@pytest.fixture(scope="module")
def events(analysed: Run) -> EventAccumulator:
    """All that TensorBoard shows of it."""
    events = EventAccumulator(str(analysed.path), size_guidance={"images": 0})
    events.Reload()
    return events


@pytest.mark.parametrize("name", ANALYSES)
def test_figures(analysed: Run, events: EventAccumulator, name: str) -> None:
    """As PNG and SVG in the folder, on the page, and once in TensorBoard."""
    figures = analysed.figures_of(name)
    assert figures
    assert {path.with_suffix(".svg") for path in figures} == set((analysed.path / "analysis" / name).glob("*.svg"))
    assert f'<h2 id="{name}">' in (analysed.path / "report.html").read_text()
    for path in figures:
        (image,) = events.Images(f"analysis/{name}/{path.stem}")
        assert image.encoded_image_string == path.read_bytes()


def test_arrays(analysed: Run) -> None:
    with np.load(analysed.path / "analysis/sparsity/arrays.npz") as arrays:
        assert arrays["lifetime_sparsity"].mean() == pytest.approx(analysed.metrics["test/lifetime_sparsity"], rel=1e-5)


def test_projector(analysed: Run) -> None:
    folder = analysed.path
    (embedding,) = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    vectors, labels = ((folder / path).read_text() for path in (embedding.tensor_path, embedding.metadata_path))
    assert len(vectors.splitlines()) == len(labels.splitlines())
    assert list(embedding.sprite.single_image_dim) == [28, 28]
    with Image.open(folder / embedding.sprite.image_path) as sprite:
        assert sprite.size == (28 * math.ceil(len(labels.splitlines()) ** 0.5),) * 2


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run on rows that are no images and have no classes."""
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(600, 20)).astype(np.float32))
    options = [f"data.path={folder / 'x.npy'}", "model=linear", "model.latent_dim=30", "sparsity=topk", "sparsity.k=4"]
    train_run(folder / "run", "data=arrays", *options, *SMALL, "analysis=[overview]")
    return folder


def test_vectors_have_pictures_and_a_page(vectors: Path) -> None:
    run = Run(vectors / "run")
    assert {path.stem for path in run.figures} == {"sparsity", "features", "reconstructions"}
    assert (run.path / "report.html").read_text().count("data:image/png") == 3
    events = EventAccumulator(str(run.path), size_guidance={"images": 0})
    events.Reload()
    assert {"reconstructions", "features", "analysis/overview/features"} <= set(events.Tags()["images"])


def test_the_default_leaves_out_what_needs_classes_and_a_name_does_not(vectors: Path) -> None:
    outcome = run_command(vectors, "sparse-ae-analyse", "run=run")
    assert outcome.code == 0, outcome.err
    assert "left out: data.labels: selectivity needs classes, and the data have none" in outcome.out.splitlines()
    assert set(Run(vectors / "run").analyses) == {*ANALYSES, "overview"} - {"selectivity"}
    outcome = run_command(vectors, "sparse-ae-analyse", "run=run", "analysis=[selectivity]")
    assert outcome.code != 0
    assert "data.labels: selectivity needs classes, and the data have none" in outcome.err
    assert not (vectors / "run/analysis/selectivity").exists()


def test_patches_of_vectors_are_refused_before_anything_is_written(vectors: Path) -> None:
    options = ("data=arrays", "data.path=x.npy", "model=linear", "model.start=patches", "hydra.run.dir=patches")
    outcome = run_command(vectors, "sparse-ae-train", *options)
    assert outcome.code != 0
    assert (
        "model.start=patches: the data are vectors, and patches are cut out of images (expected random)" in outcome.err
    )
    assert not (vectors / "patches").exists()
