"""Two processes that train one model."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sparse_ae
from sparse_ae.metrics import CodeMetrics, evaluate
from sparse_ae.run.directory import Run
from tests.helpers import SMALL, mnist
from tests.processes import command, wait_until


@pytest.mark.slow
def test_two_ranks(tmp_path: Path) -> None:
    """Distributed on the CPU: each rank its share, exact metrics, one set of files."""
    resampling = ["dead=resample", "dead.every_epochs=1", "dead.window_epochs=0.01", "dead.until=1"]
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=run", *SMALL]
    ddp += ["analysis=[overview]"]
    process = command(tmp_path, *ddp, "sparsity=batch_topk", "sparsity.k=1", "model=linear", *resampling)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("epoch 1/2") == 1
    assert "error" not in err
    run = Run(tmp_path / "run")
    assert run.status.state == "finished"
    assert run.metrics["train/revived_units"] > 0
    assert_metrics_are_of_whole_split(run)
    assert run.has_analysis("overview")


def assert_metrics_are_of_whole_split(run: Run, rel: float = 1e-6) -> None:
    """Check test metrics of a run with 128 units against one pass of one process on the CPU."""
    data = mnist()
    scores = CodeMetrics(mean=data.train_mean, latent_dim=128, threshold=0.1)
    alone = evaluate(sparse_ae.load(run.path), data.test_dataloader(), scores)
    for name, value in alone.items():
        assert run.metrics[f"test/{name}"] == pytest.approx(value, rel=rel), name


SLOW_TEST = """
import time
from pathlib import Path
from sparse_ae.commands.train import main
from sparse_ae.training.module import SparseAutoencoderModule

step = SparseAutoencoderModule.test_step

def slow(*arguments):
    Path("testing").touch()
    time.sleep(0.5)
    return step(*arguments)

SparseAutoencoderModule.test_step = slow
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_stop_two_ranks_in_their_test(tmp_path: Path, number: signal.Signals) -> None:
    """A signal to the first process, from which the other does not hear while it waits for it."""
    (tmp_path / "train.py").write_text(SLOW_TEST)
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=run", *SMALL]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "train.py", *ddp], cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    wait_until((tmp_path / "testing").exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=300)  # until both have closed their output
    assert process.returncode == 128 + number
    assert err == f"sparse-ae-train: stopped by {number.name}; run the same command to resume\n"
    run = Run(tmp_path / "run")
    assert (run.read_state(), run.status.error) == ("interrupted", number.name)
