"""Two processes that train one model."""

from pathlib import Path

import pytest

import sparse_ae
from sparse_ae.metrics import CodeMetrics, evaluate
from sparse_ae.runs.directory import Run
from tests.helpers import SMALL, mnist
from tests.processes import command


@pytest.mark.slow
def test_two_ranks(tmp_path: Path) -> None:
    """Distributed on the CPU: each rank its share, exact metrics, one set of files."""
    resampling = ["dead=resample", "dead.every_epochs=1", "dead.window_epochs=0.01", "dead.until=1"]
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=run", *SMALL]
    process = command(tmp_path, *ddp, "sparsity=batch_topk", "sparsity.k=1", "model=linear", *resampling)
    out, err = process.communicate(timeout=300)
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
