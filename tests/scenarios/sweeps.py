"""Small sweeps, and the runs that they made."""

from collections.abc import Callable
from pathlib import Path

from sparse_ae.run.directory import Run

SMALL = [
    "sparsity=l1",
    "model.latent_dim=16",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=10",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "analysis=[]",
    "threads=1",  # several tests run at once
]
LONG = [*SMALL, "trainer.max_epochs=8", "trainer.limit_train_batches=100", "data.batch_size=32"]


def runs(folder: Path) -> dict[str, Run]:
    """The runs of the default sweep by the part of the name before the hash."""
    paths = (p for p in (folder / "outputs" / "default").iterdir() if (p / ".lock").exists())
    return {p.name.rpartition("-")[0]: Run(p) for p in sorted(paths)}


def training(folder: Path) -> list[Run]:
    """The runs that have come some way; none before the sweep begins."""
    if not (folder / "outputs" / "default").exists():
        return []
    return [run for run in runs(folder).values() if run.status.progress > 0]


Sweep = Callable[..., str]
