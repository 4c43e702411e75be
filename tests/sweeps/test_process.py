"""Jobs in a process of their own."""

import os
import sys
from pathlib import Path

import pytest

from sparse_ae.run.directory import Run
from sparse_ae.sweeps.process import JobSpec, run_isolated


class Greets:
    """What the environment says, said by a job that ends there."""

    def __init__(self, *_: object) -> None:
        print(os.environ["GREETING"])
        sys.exit(1)


def test_jobs_have_the_environment_of_their_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the first sweep of a Python session, with which the server began."""
    spec = JobSpec(f"{Greets.__module__}:{Greets.__name__}", {}, tmp_path / "run", {})
    for greeting in ("hello", "goodbye"):
        monkeypatch.setenv("GREETING", greeting)
        run_isolated([spec])
    assert Run(spec.folder).log.read_text().split() == ["hello", "goodbye"]
