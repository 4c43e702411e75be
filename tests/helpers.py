"""Helpers of many tests: commands in this process, composed configs, small runs."""

import copy
import functools
import io
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf

from sparse_ae.cli.compose import compose, composing, task_config
from sparse_ae.commands import analyse, evaluate, fit, report, train
from sparse_ae.config.groups import conf_dir
from sparse_ae.data import MNIST
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.jobs.coder import CoderJob
from sparse_ae.jobs.execute import execute
from sparse_ae.run.directory import Run
from sparse_ae.training.stop import SIGNALS

ROOT = Path(__file__).parent.parent
CONF = conf_dir()

COMMANDS = {
    "sparse-ae-train": train.main,
    "sparse-ae-fit": fit.main,
    "sparse-ae-evaluate": evaluate.main,
    "sparse-ae-analyse": analyse.main,
    "sparse-ae-report": report.main,
}

OF_SEVERAL = ("analysis", "callbacks", "logger")
"""Groups of which a config may select several options."""

SMALL = [
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=20",
    "trainer.log_every_n_steps=5",
    "visuals.every_n_epochs=1",
    "analysis=[]",
]
"""Options of a run that takes seconds."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def hear_signals() -> None:
    """Ignore no signal to stop, whatever this process was started by: ``nohup``, or a shell in the background."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def run_command(folder: Path, command: str, *arguments: str) -> Outcome:
    """Run a command as its console script would, in ``folder`` and in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [command, *arguments])
        code = _exit_code(COMMANDS[command])
    return Outcome(code, out.getvalue(), err.getvalue())


def _exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def fresh_config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """A composed config as the entry points see it."""
    with composing():
        return task_config(compose(name, list(overrides)))


@functools.cache
def _composed(name: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    return fresh_config(*overrides, name=name)


def plain_config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """A composed config, which is composed once: files that it names must not change."""
    return copy.deepcopy(_composed(name, overrides))


def train_run(folder: Path, *overrides: str) -> Run:
    """Train in ``folder``, in this process."""
    return execute_run(folder, plain_config(*overrides))


def execute_run(folder: Path, config: dict[str, Any], sweep: str | None = None) -> Run:
    """Execute the job that ``config`` describes in ``folder``, in this process, as one of ``sweep`` if given."""
    kind = CoderJob if "coder" in config else AutoencoderJob
    job = kind(config, Run(folder))
    execute(job, {"config.yaml": OmegaConf.to_yaml(OmegaConf.create(config))}, sweep)
    return job.run


def mnist(**changes: object) -> MNIST:
    """The default data module, its files in place."""
    spec = {**plain_config()["data"], **changes}
    del spec["_target_"]
    data = MNIST(**spec)
    data.prepare_data()
    return data
