"""Runs and sweeps in processes of their own, to be stopped and killed."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from sparse_ae import lock
from sparse_ae.sweeps.process import JobSpec
from sparse_ae.sweeps.server import PRELOAD
from sparse_ae.sweeps.together import execute_together
from tests.helpers import execute_run, hear_signals, plain_config

# Forked from a server that has imported torch, a process starts at once. A server that was started in the folder
# of a test cannot import `tests`, which each of its processes then does.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*PRELOAD, "tests.processes"])


def start(
    folder: Path,
    *overrides: str,
    config: str = "train",
    variables: dict[str, str] | None = None,
    lockless: int = 0,
) -> BaseProcess:
    """Train in ``folder``, or with ``config="fit"`` fit a classical coder, in a process of its own.

    ``variables`` are set in its environment. ``lockless`` is the code of ``without_locks``, if it is to have none.
    """
    process = CONTEXT.Process(target=_train, args=(folder, config, overrides, variables or {}, lockless))
    process.start()
    return process


def _train(folder: Path, config: str, overrides: tuple[str, ...], variables: dict[str, str], lockless: int) -> None:
    os.environ.update(variables)
    hear_signals()  # the server that jobs are forked from ignores them
    with without_locks(lockless) if lockless else nullcontext():
        execute_run(folder, plain_config(*overrides, name=config))


def start_together(specs: Sequence[JobSpec]) -> BaseProcess:
    """Train several runs together in a process."""
    process = CONTEXT.Process(target=_train_together, args=(specs,))
    process.start()
    return process


def _train_together(specs: Sequence[JobSpec]) -> None:
    hear_signals()
    execute_together(specs)


def command(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """``sparse-ae-train`` as typed in ``folder``, leading a process group of its own as a shell would have it."""
    line = [sys.executable, "-m", "sparse_ae.commands.train", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_until(condition: Callable[[], object], *, seconds: float = 240) -> None:
    """Wait for ``condition``, checked often."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextmanager
def without_locks(code: int) -> Iterator[None]:
    """Inside ``with``, the operating system answers this process as a file system without locks does, with ``code``.

    There is no need to wait long for other claims.
    """

    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        patch.setattr(lock, "_CLAIM_SECONDS", 0.1)
        yield
