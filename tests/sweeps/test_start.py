"""The server of a sweep's jobs is started before torch is imported."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pkgutil import resolve_name

import pytest

from sparse_ae.sweeps import server, start
from sparse_ae.sweeps.local import LocalLauncher
from tests.helpers import Cli

_SWEEP = ["-m", "sparsity.coefficient=0.1,0.2"]


def test_the_start_does_not_wait_for_torch() -> None:
    heavy = "sorted({'torch', 'lightning', 'numpy', 'matplotlib', 'joblib'} & set(sys.modules))"
    script = f"import sys, sparse_ae.sweeps.start; print({heavy})"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_the_local_launcher_is_named_rightly() -> None:
    assert resolve_name(server.LOCAL) is LocalLauncher


@pytest.mark.parametrize("key", ["hydra.verbose=true", "hydra.job.chdir=true"])
def test_a_mistake_starts_no_server(cli: Cli, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    started: list[bool] = []
    monkeypatch.setattr(start, "warm_up", lambda: started.append(True))
    outcome = cli("sparse-ae-train", *_SWEEP, key)
    assert (outcome.code, started) == (1, []), outcome.err
    assert key.partition("=")[0] in outcome.err


def test_another_thread_may_start_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python lets the main thread alone say which signals to ignore."""
    asked: list[bool] = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: asked.append(True))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.warm_up).result()
    assert asked == [True]
