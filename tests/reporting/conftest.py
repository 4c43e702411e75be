"""A small sweep, trained in full once, and a browser to show its pages in."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from sparse_ae.run.naming import run_name
from tests.helpers import plain_config, train_run
from tests.reporting.browsing import CHROMIUM, DRIVER

SMALL = ["seed=1", "model.latent_dim=16", "trainer=cpu", "trainer.max_epochs=1", "trainer.log_every_n_steps=2"]
SMALL += ["visuals.n_features=1", "analysis.overview.n_features=4", "analysis.overview.n_images=4"]
SMALL += [f"trainer.limit_{split}_batches=4" for split in ("train", "val", "test")]


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Train two methods at two weights, in this process. Tests that write into the folder take ``sweep``."""
    folder = tmp_path_factory.mktemp("sweep") / "outputs"
    for method, coefficient in itertools.product(("l1", "kl"), ("0.001", "0.1")):
        overrides = [f"sparsity={method}", f"sparsity.coefficient={coefficient}", *SMALL]
        train_run(folder / run_name(plain_config(*overrides), {"sparsity": method}), *overrides)
    return folder


@pytest.fixture
def sweep(finished_sweep: Path, tmp_path: Path) -> Path:
    """Copy of the small sweep, to be written into."""
    return Path(shutil.copytree(finished_sweep, tmp_path / "sweep"))


@pytest.fixture
def runs(sweep: Path) -> list[Path]:
    """Folders of its four runs: kl at 0.001 and 0.1, then l1 at the same weights."""
    return sorted(path for path in sweep.iterdir() if path.is_dir())


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver
