"""Memory of analyses, metrics and training of very wide codes: no array has a row for each sample or unit and a column
for each unit.
"""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from scipy import sparse
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer

from sparse_ae import functional
from sparse_ae.analysis import Sample, Subject, ablation, probe, similarity, stability
from sparse_ae.coders import omp
from sparse_ae.config.build import build
from sparse_ae.data.sparse_model import Truth
from sparse_ae.metrics import CodeMetrics
from sparse_ae.models import Linear, SparseAutoencoder
from sparse_ae.run.directory import Run
from sparse_ae.sparsity import TopK
from tests.helpers import CONF, train_run

SAMPLES, UNITS, VALUES = 400, 8000, 16
SPECS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "analysis").glob("*.yaml"))}
del SPECS["loss_recovered"]  # runs a language model, and codes a batch of its activations at a time
OPTIONS: dict[str, dict[str, Any]] = {
    "amortisation": {"timed_seconds": 0.001},
    "probe": {"labels_per_class": [], "c": [1], "classifiers": ["svm"], "n_choose": 50},
    "robustness": {"sigmas": [0.1], "shares": [0.1]},
    "gabor": {"n_units": 2},
    "selectivity": {"permutations": 20},
}


class _Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that an operation returns, views by what they are of."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.by = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                elements = leaf.untyped_storage().nbytes() // leaf.element_size()
                if elements > self.elements:
                    self.elements, self.by = elements, str(func)
        return found


@contextmanager
def _no_tensor_of(elements: int) -> Iterator[None]:
    """Fail if the block makes a tensor of so many elements."""
    with _Largest() as largest:
        yield
    assert largest.elements < elements, largest.by


@contextmanager
def _no_array_of(elements: int) -> Iterator[None]:
    """Fail if NumPy's arrays take two bytes for each of so many elements, all together."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * elements


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and all that is kept beside them are as much smaller as these codes are than those of 65,536 units."""
    monkeypatch.setattr(functional, "BLOCK", 2**17)
    monkeypatch.setattr(omp, "_GRAM_VALUES", 2**16)
    monkeypatch.setattr(similarity, "_MOST", 256)
    monkeypatch.setattr(stability, "_MOST_COSINES", 2**16)
    monkeypatch.setattr(stability, "_MOST_PAIRED", 256)
    monkeypatch.setattr(stability, "_MOST_MATCHED", 100)
    monkeypatch.setattr(probe, "_MOST_FEATURES", 2**17)


def _coder(seed: int = 0) -> SparseAutoencoder:
    torch.manual_seed(seed)
    return SparseAutoencoder(Linear(input_dim=VALUES, latent_dim=UNITS), TopK(k=8, latent_dim=UNITS)).eval()


def _subject(coder: Any) -> Subject:
    def rows(split: Literal["train", "val", "test"]) -> tuple[Tensor, Tensor]:
        x = torch.randn(SAMPLES, VALUES, generator=torch.Generator().manual_seed(len(split)))
        return x, torch.arange(SAMPLES) % 3

    sample = Sample(*rows("test"), (1, 4, 4), 0.1, lambda: rows("train")[0], rows)
    return Subject(coder, sample._replace(truth=_truth))


def _truth() -> Truth:
    """As many features as units, each with a parent; eight fire in a sample."""
    random = np.random.default_rng(0)
    places = np.arange(SAMPLES).repeat(8), random.integers(UNITS, size=8 * SAMPLES)
    codes = sparse.csr_array((np.ones(8 * SAMPLES, dtype=np.float32), places), shape=(SAMPLES, UNITS))
    parent = torch.arange(UNITS) - 1
    return Truth(torch.randn(UNITS, VALUES), torch.zeros(VALUES), torch.full((UNITS,), 1e-3), parent, codes)


def _analyse(subject: Subject, name: str) -> Any:
    return build(SPECS[name] | OPTIONS.get(name, {}), f"analysis.{name}")(subject)


@pytest.mark.parametrize("name", SPECS)
def test_analyses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "stability":
        monkeypatch.setattr(stability, "_others", lambda subject, runs: [Run(Path("other"))])
        monkeypatch.setattr(stability, "load", lambda run: _coder(seed=1))
    if name == "amortisation":
        Timer("1").timeit(1)  # imports what it takes
    subject = _subject(_coder())
    with _no_tensor_of(SAMPLES * UNITS), _no_array_of(SAMPLES * UNITS):
        assert _analyse(subject, name).numbers


class Bent:
    """A decoder that is not linear."""

    def __init__(self) -> None:
        self.linear = _coder()
        self.dictionary, self.encode = self.linear.dictionary.detach(), self.linear.encode

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.linear.decode(z))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["features", "importance", "truncation"])
def test_analyses_of_other_decoders(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "_GREEDY_SAMPLES", 5)
    monkeypatch.setattr(ablation, "_GREEDY_UNITS", 100)
    monkeypatch.setattr(ablation, "_DECODED_CODES", 2**20)
    with _no_tensor_of(SAMPLES * UNITS), _no_array_of(SAMPLES * UNITS):
        assert _analyse(_subject(Bent()), name).numbers


def test_metrics() -> None:
    subject, metrics = _subject(_coder()), CodeMetrics(mean=torch.zeros(VALUES), latent_dim=UNITS)
    with torch.inference_mode(), _no_tensor_of(SAMPLES * UNITS):
        metrics.code(subject.coder, subject.x, subject.x)
    assert metrics.values()["l0"] == 8


def test_training(tmp_path: Path) -> None:
    """With all that looks at more than a batch: metrics, health, images, dead units and their resampling."""
    rows, units = 400, 4096
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(3 * rows, VALUES)).astype(np.float32))
    with _no_tensor_of(rows * units):
        run = train_run(
            tmp_path / "run",
            *("data=arrays", f"data.path={tmp_path / 'x.npy'}", f"data.val_size={rows}", f"data.test_size={rows}"),
            *("data.batch_size=16", "model=linear", f"model.latent_dim={units}", "sparsity=topk", "sparsity.k=4"),
            *("dead=resample", "dead.every_epochs=1", "dead.window_epochs=0.1", "analysis=[]"),
            *("trainer.max_epochs=2", "visuals.every_n_epochs=1", "trainer.enable_progress_bar=false"),
        )
    assert run.metrics["train/revived_units"] > 0
