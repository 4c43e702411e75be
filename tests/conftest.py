"""Fixtures: the data, a command runner, and one small finished run that many tests look at."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: as many tests run at a time as there are cores

import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf

from sparse_ae import analyse, evaluate, fit, job, report, train
from sparse_ae.cli import compose, task_config
from sparse_ae.data import MNIST
from sparse_ae.runs import Run

COMMANDS = {
    "sparse-ae-train": train.main,
    "sparse-ae-fit": fit.main,
    "sparse-ae-evaluate": evaluate.main,
    "sparse-ae-analyse": analyse.main,
    "sparse-ae-report": report.main,
}

SMALL = [
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=20",
    "trainer.log_every_n_steps=5",
    "visuals.every_n_epochs=1",
]


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST is unpacked once for the whole session, away from the user's cache."""
    root = tmp_path_factory.mktemp("data")
    os.environ["SPARSE_AE_DATA"] = str(root)
    return root


@pytest.fixture(autouse=True)
def _leave_no_traces() -> Iterator[None]:
    """Commands run in this process: put back the handlers they set."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)
            handler.close()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run a command as its console script would, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(command: str, *arguments: str) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [command, *arguments])
        code = 0
        try:
            COMMANDS[command]()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Outcome(code, *capsys.readouterr())

    return run


def plain_config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """A composed config as the entry points see it."""
    return task_config(compose(name, list(overrides)))


def train_run(folder: Path, *overrides: str) -> Run:
    """Train in ``folder``, in this process."""
    config = plain_config(*overrides)
    run = Run(folder)
    job.train(config, run, {"config.yaml": OmegaConf.to_yaml(OmegaConf.create(config))})
    return run


def mnist(**changes: object) -> MNIST:
    """The default data module, its files in place."""
    spec = {**plain_config()["data"], **changes}
    del spec["_target_"]
    data = MNIST(**spec)
    data.prepare_data()
    return data


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A small L1 run, trained in full. Tests that write into it take ``run_copy``."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_run(folder, "sparsity=l1", *SMALL)
    return folder


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """The small finished run, to be written into."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
