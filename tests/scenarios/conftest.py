"""Runs that several scenarios share."""

from pathlib import Path

import pytest

from sparse_ae.run.directory import Run
from tests.data.activations.models import make_bert, make_corpus
from tests.helpers import Cli, train_run
from tests.scenarios.crashes import SHORT, PowerCut, crashing
from tests.scenarios.sweeps import Sweep


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> tuple[Run, Run]:
    """A run that was left alone, and an interrupted duplicate of it with a last checkpoint and a previous one."""
    folder = tmp_path_factory.mktemp("pair")
    whole = train_run(folder / "whole", *SHORT)
    with crashing(20, PowerCut):
        train_run(folder / "half", *SHORT)
    return whole, Run(folder / "half")


@pytest.fixture
def sweep(cli: Cli) -> Sweep:
    """Run a whole sweep in ``tmp_path`` and give its output. Its jobs are processes of their own."""

    def run(*arguments: str, code: int = 0) -> str:
        outcome = cli("sparse-ae-train", "-m", *arguments)
        assert (outcome.code, outcome.err) == (code, ""), outcome.out
        return outcome.out

    return run


@pytest.fixture(scope="session")
def linear_run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A run with a linear decoder, hardly trained."""
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=5", "analysis=[]"]
    return train_run(tmp_path_factory.mktemp("linear") / "run", "model=linear", "sparsity=l1", *short).path


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small language model, ``MODEL``, and text for it, ``corpus``."""
    folder = tmp_path_factory.mktemp("activations")
    make_bert(folder / "MODEL", layers=4, longest=256)
    make_corpus(folder / "corpus", n=100)
    return folder
