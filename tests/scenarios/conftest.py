"""Runs that several scenarios share."""

from pathlib import Path

import pytest

from sparse_ae.runs.directory import Run
from tests.helpers import train_run
from tests.scenarios.crashes import SHORT, PowerCut, crashing


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> tuple[Run, Run]:
    """A run that was left alone, and an interrupted duplicate of it with a last checkpoint and a previous one."""
    folder = tmp_path_factory.mktemp("pair")
    whole = train_run(folder / "whole", *SHORT)
    with crashing(20, PowerCut):
        train_run(folder / "half", *SHORT)
    return whole, Run(folder / "half")
