"""Commands of the documentation: read from its code blocks, checked without training, or cut down to be executed."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sparse_ae.cli import single
from sparse_ae.commands import analyse, evaluate, report
from sparse_ae.sweeps import search, start, sweeper
from tests.helpers import Cli

LIMITS = [f"trainer.limit_{split}_batches=2" for split in ("train", "val", "test")]
LIMITS += ["trainer.max_epochs=1", "analysis=[]", "threads=1"]

_MOST = 4
"""Number of jobs of a sweep that are built."""


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page, as words."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def limited_fit(arguments: list[str]) -> list[str]:
    """A fit of few small atoms to a thousand images, patches or tokens at most."""
    (coder,) = (a.removeprefix("coder=") for a in arguments if a.startswith("coder="))
    several = any(a.startswith("coder.n_nonzero=") and "," in a for a in arguments)
    few = {"data=natural_patches", "data=activations", "data=synthetic"} & set(arguments)
    limits = {"data.n": "1000"} if few else {"data.val_size": "59000"}
    if coder in ("omp", "fista", "ista", "true_atoms"):
        limits |= {"coder.steps": "10"} if coder in ("fista", "ista") else {}
    elif coder == "pca":
        limits |= {"coder.latent_dim": "4"}
    else:
        limits |= {"coder.latent_dim": "16", "coder.n_nonzero": "2,3" if several else "2"}
        limits |= {"coder.epochs": "1"} if coder == "ksvd" else {}
    limits |= {"threads": "1"}
    kept = [a for a in arguments if a.split("=")[0] not in limits]
    return kept + [f"{key}={value}" for key, value in limits.items()]


@contextmanager
def only_checked() -> Iterator[None]:
    """Make every command stop where its work would begin: its config is composed and checked, and its jobs are built.

    Of a large sweep every job is listed, and some are built.
    """

    def some_jobs(*arguments: Any) -> list[list[str]]:
        jobs = list_jobs(*arguments)
        return jobs[:: -(-len(jobs) // _MOST)]

    list_jobs = sweeper.list_jobs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "execute", lambda *_: False)
        patch.setattr(sweeper, "list_jobs", some_jobs)
        patch.setattr(start, "warm_up", lambda: None)
        for kind in (sweeper, search):
            patch.setattr(kind, "train", lambda *_: None)
        patch.setattr(evaluate, "_evaluate", lambda *_: None)
        patch.setattr(analyse, "_analyse", lambda *_, **__: None)
        patch.setattr(analyse, "_analyse_all", lambda *_, **__: None)
        patch.setattr(report, "report", lambda *_: None)
        yield


def check(cli: Cli, program: str, arguments: list[str], runs: dict[str, Path]) -> None:
    """Check one command. ``runs`` maps the placeholder of a finished run to its folder; any other is the first's."""
    instead = next(iter(runs.values())).parent
    for name, folder in runs.items():
        arguments = [a.replace(f"outputs/default/{name}", str(folder)) for a in arguments]
    arguments = [re.sub(r"^run=outputs/\w+$", f"run={instead}", a) for a in arguments]
    with only_checked():
        outcome = cli(program, *arguments)
    is_sweep = "-m" in arguments
    assert outcome.code == int(is_sweep), (program, arguments, outcome.err)  # a sweep sees that nothing is finished
    assert outcome.err == ""
    assert "left out" not in outcome.out
    assert not is_sweep or "to train" in outcome.out or "hydra/sweeper=search" in arguments
