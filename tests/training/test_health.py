"""Warnings: each from a run that really has the trouble, and none from one that has not."""

from pathlib import Path

import pytest

from sparse_ae.run.directory import Run
from tests.helpers import train_run
from tests.training.test_module import _events

SHORT = [
    "data.batch_size=256",
    "trainer.limit_train_batches=40",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "analysis=[]",
    "visuals.every_n_epochs=100",
    "trainer.max_epochs=2",
]


def _warnings(folder: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    train_run(folder, *SHORT, *overrides)
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: "))


@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("kl", "mlp"),
        ("topk", "linear"),
        *(pytest.param(method, "linear", marks=pytest.mark.slow) for method in ("l1", "hoyer", "gated", "jumprelu")),
    ],
)
def test_a_healthy_run_warns_of_nothing(
    method: str, network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _warnings(tmp_path, capsys, f"sparsity={method}", f"model={network}") == ""


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["sparsity=l1", "sparsity.coefficient=1e-9"], ["sparsity.coefficient=1e-09 changes nothing"]),
        (
            ["sparsity=l1", "sparsity.coefficient=1e6"],
            ["the codes are the same for every sample", "the term l1 has no gradient"],
        ),
        (["sparsity=kl", "sparsity.coefficient=1e4", "sparsity.rho=1e-5"], ["the codes are saturated at 0 or 1"]),
        (["trainer.gradient_clip_val=1e-9"], ["every gradient of the epoch was clipped to 1e-09"]),
        (
            ["trainer.gradient_clip_val=1e-12", "trainer.gradient_clip_algorithm=value"],
            ["every gradient of the epoch was clipped to 1e-12"],
        ),
        (
            ["sparsity=topk", "sparsity.k=1", "model=linear", "model.latent_dim=512", "model.b_pre=zeros"],
            ["of 512 units fire for no training sample before training begins"],
        ),
        (["sparsity=topk", "sparsity.k=1", "model.latent_dim=256"], ["of 256 units have not fired for 1 epochs"]),
        (
            ["sparsity=l1", "model=linear", "model.unit_norm=false", "sparsity.coefficient=10", "optimizer.lr=0.1"],
            ["the decoder's weights have grown"],
        ),
        (
            ["sparsity=l1", "target=l0", "target.value=127.9", "target.start=1.05e-8"],
            ["target l0=127.9 is out of reach"],
        ),
    ],
)
def test_trouble_is_told_once_with_a_remedy(
    overrides: list[str], messages: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _warnings(tmp_path, capsys, *overrides)
    for message in messages:
        assert told.count(message) == (2 if "out of reach" in message else 1)  # the end says it once more
        assert message in Run(tmp_path).log.read_text()
    texts = [tag for tag in _events(tmp_path).Tags()["tensors"] if tag.startswith("health/")]
    assert len(texts) >= 1
    assert "{" not in told
