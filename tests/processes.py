"""Runs and sweeps in processes of their own, to be stopped and killed."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from omegaconf import OmegaConf

from sparse_ae.cli.compose import compose, task_config
from sparse_ae.jobs.execute import train
from sparse_ae.runs.directory import Run

# Forked from a server that has imported torch, a process starts at once.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.processes", "sparse_ae.sweep.preload"])


def start(folder: Path, *overrides: str, config: str = "train") -> BaseProcess:
    """Train in ``folder``, or with ``config="fit"`` fit a classical coder, in a process of its own."""
    process = _CONTEXT.Process(target=_train, args=(folder, config, overrides))
    process.start()
    return process


def _train(folder: Path, config: str, overrides: tuple[str, ...]) -> None:
    composed = task_config(compose(config, list(overrides)))
    train(composed, Run(folder), {"config.yaml": OmegaConf.to_yaml(composed)})


def command(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """``sparse-ae-train`` as typed in ``folder``, leading a process group of its own as a shell would have it."""
    line = [sys.executable, "-m", "sparse_ae.train", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait for ``condition``, checked often."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
