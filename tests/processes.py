"""Runs and sweeps in processes of their own, to be stopped and killed."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.helpers import execute_run, plain_config

# Forked from a server that has imported torch, a process starts at once.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.processes", "sparse_ae.analysis.overview", "sparse_ae.training.visuals"])


def start(folder: Path, *overrides: str, config: str = "train") -> BaseProcess:
    """Train in ``folder``, or with ``config="fit"`` fit a classical coder, in a process of its own."""
    process = CONTEXT.Process(target=_train, args=(folder, config, overrides))
    process.start()
    return process


def _train(folder: Path, config: str, overrides: tuple[str, ...]) -> None:
    execute_run(folder, plain_config(*overrides, name=config))


def command(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """``sparse-ae-train`` as typed in ``folder``, leading a process group of its own as a shell would have it."""
    line = [sys.executable, "-m", "sparse_ae.train", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_until(condition: Callable[[], object], *, seconds: float = 240) -> None:
    """Wait for ``condition``, checked often."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
