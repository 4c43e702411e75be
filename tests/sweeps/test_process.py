"""Jobs in a process of their own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import pytest

from sparse_ae.run.directory import Run
from sparse_ae.sweeps.local import LocalLauncher
from sparse_ae.sweeps.process import JobSpec, run_isolated


class Tells:
    """A job that says what it was given, and ends."""

    def __init__(self, config: Mapping[str, Any], *_: object) -> None:
        print(os.environ["GREETING"], config["threads"])
        sys.exit(1)


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    config = {"threads": None, "data": {"device": "cpu"}}
    return JobSpec(f"{Tells.__module__}:{Tells.__name__}", config, tmp_path / "run", {})


def told(spec: JobSpec) -> list[str]:
    return Run(spec.folder).log.read_text().splitlines()


def test_jobs_have_the_environment_of_their_start(spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the first sweep of a Python session, with which the server began."""
    for greeting in ("hello", "goodbye"):
        monkeypatch.setenv("GREETING", greeting)
        run_isolated([spec])
    assert told(spec) == ["hello None", "goodbye None"]


def test_a_job_has_its_share_of_the_cores(spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", "hello")
    LocalLauncher(n_jobs=1).launch([spec])
    assert told(spec) == [f"hello {joblib.cpu_count()}"]
