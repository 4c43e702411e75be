"""Fixtures: the data, a command runner, and one small finished run that many tests look at."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: as many tests run at a time as there are cores

import functools
import logging
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from sparse_ae.training.stop import SIGNALS, restore
from tests.helpers import SMALL, Cli, hear_signals, run_command, train_run

hear_signals()

# The same examples everywhere, however long they take on a busy machine.
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    says = "device of the tests marked gpu; default: cuda, and without a GPU they are left out"
    parser.addoption("--device", choices=["cuda", "cpu"], help=says)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("device") or torch.cuda.is_available():
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.fixture(scope="session", autouse=True)
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST is unpacked once for the whole session, away from the user's cache."""
    root = tmp_path_factory.mktemp("data")
    os.environ["SPARSE_AE_DATA"] = str(root)
    return root


@pytest.fixture(autouse=True)
def _leave_no_traces() -> Iterator[None]:
    """Commands run in this process: put back the handlers they set."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    restore(handlers)
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)
            handler.close()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command as its console script would, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return functools.partial(run_command, tmp_path)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A small L1 run, trained in full. Tests that write into it take ``run_copy``."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_run(folder, "sparsity=l1", *SMALL, "analysis=[overview]")
    return folder


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """The small finished run, to be written into."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Show a folder where it may only be read, also by root."""
    shown = tmp_path / "read_only"
    shown.mkdir()

    def show(folder: Path) -> Path:
        for options in (["--bind", folder, shown], ["-o", "remount,bind,ro", shown]):
            if subprocess.run(["mount", *options], capture_output=True).returncode:
                pytest.skip("may not mount a file system here")
        return shown

    yield show
    subprocess.run(["umount", shown], capture_output=True)
