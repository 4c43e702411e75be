"""Runs in folders whose names a shell, Hydra's grammar or a command line could take for something else."""

import shlex
import shutil
from pathlib import Path

import pytest

from tests.helpers import SMALL, Cli, run_command

PLAIN = ["lr=0.1", "größe#1", "1e3", "~", "a b", "12:30", "50%", "2024", "true", "a&b;c", "$a$", "b/", "./c"]
"""Names that mean themselves in an override."""
QUOTED = ["a=1,b=2", "it's", "a,b", "(1)", "[1]", "{1}", 'a "b"', "choice(a,b)", "a\\b"]
"""Names that need quotes where an override could be an axis, and none after ``run=``."""
FAST = ("lr=0.1", "1e3", "~", "a=1,b=2", "it's")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in PLAIN + QUOTED]
)
def test_every_command_finds_it_and_the_next_command_can_be_copied(
    cli: Cli, tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The run is finished, so that training only prints its results and what to do next."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(finished_run, tmp_path / ("home" if name == "~" else name))
    typed = name if name in PLAIN else '"' + name.replace('"', '\\"') + '"'
    outcome = cli("sparse-ae-train", "sparsity=l1", *SMALL, f"hydra.run.dir={typed}")
    assert (outcome.code, outcome.err) == (0, "")
    assert "already finished" in outcome.out
    command, run, *_ = shlex.split(outcome.out.splitlines()[-1])
    assert command == "sparse-ae-analyse"
    for argument in (run, f"run={name}"):
        outcome = cli("sparse-ae-evaluate", argument, "data=mnist", "data.eval_batch_size=0")
        assert "data.eval_batch_size=0: " in outcome.err, outcome.err  # which is said of a run that was found


def test_a_run_may_change_the_working_directory(cli: Cli, tmp_path: Path, finished_run: Path) -> None:
    """Paths on its command line stay relative to where it was typed, and those that it prints as well."""
    shutil.copy(finished_run / "checkpoints" / "last.ckpt", tmp_path / "lr=0.1.ckpt")
    arguments = [
        "sparsity=l1",
        *SMALL,
        "resume=lr=0.1.ckpt",
        "hydra.run.dir=a/b",
        "hydra.job.chdir=true",
    ]
    outcome = cli("sparse-ae-train", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "run:      a/b\n" in outcome.out
    assert "sparse-ae-analyse run=a/b " in outcome.out
    assert Path.cwd() == tmp_path
    assert "already finished" in run_command(tmp_path, "sparse-ae-train", *arguments).out
