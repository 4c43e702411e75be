"""A small sweep, trained in full once."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.reporting.browsing import CHROMIUM, DRIVER

SWEEP = ["sparsity=l1,kl", "sparsity.coefficient=0.001,0.1", "seed=1", "model.latent_dim=16", "trainer=cpu"]
SWEEP += ["trainer.max_epochs=1", "trainer.log_every_n_steps=2", "visuals.n_features=1"]
SWEEP += ["analysis.overview.n_features=4", "analysis.overview.n_images=4"]
SWEEP += [f"trainer.limit_{split}_batches=4" for split in ("train", "val", "test")]


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Two methods at two weights, made by the command itself. Tests that write into it take ``sweep``."""
    folder = tmp_path_factory.mktemp("sweep") / "outputs"
    command = [sys.executable, "-m", "sparse_ae.train", "-m", *SWEEP, f"hydra.sweep.dir={folder}"]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def sweep(finished_sweep: Path, tmp_path: Path) -> Path:
    """The small sweep, to be written into."""
    return Path(shutil.copytree(finished_sweep, tmp_path / "sweep"))


@pytest.fixture
def runs(sweep: Path) -> list[Path]:
    """Its four runs: kl at 0.001 and 0.1, then l1 at the same."""
    return sorted(path for path in sweep.iterdir() if path.is_dir())


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver
