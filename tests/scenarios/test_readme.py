"""Every command and code block of the README, executed with small limits."""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.helpers import COMMANDS, ROOT, Cli

README = (ROOT / "README.md").read_text()
LIMITS = [f"trainer.limit_{split}_batches=2" for split in ("train", "val", "test")]
LIMITS += ["trainer.max_epochs=1", "analysis=[]"]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _commands(program: str) -> list[list[str]]:
    lines = [line for block in _blocks("bash") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0].startswith(program)]


def test_every_command_line_is_of_a_kind_that_is_tested_here() -> None:
    programs = {words[0] for words in _commands("")}
    assert programs == {*COMMANDS, "make", "tensorboard"}


def test_commands_and_code_in_order(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: dict[str, Path] = {}
    for program, *arguments in _commands("sparse-ae-"):
        penalty = "l1" if "sparsity=l1" in arguments else "kl"
        if program == "sparse-ae-train":
            own = {argument.split("=")[0] for argument in arguments}
            arguments += [limit for limit in LIMITS if limit.split("=")[0] not in own]
        if program == "sparse-ae-fit":
            arguments = limited_fit(arguments)
        arguments = [a.replace("outputs/default/RUN", str(runs.get(penalty))) for a in arguments]
        arguments = [a.replace("outputs/default/LINEAR", str(_linear(tmp_path))) for a in arguments]
        outcome = cli(program, *arguments)
        assert outcome.code == 0, (program, arguments, outcome.err)
        for path in (tmp_path / "outputs" / "default").glob("*-w0.01-n128-s42-*"):  # those of the default options
            runs.setdefault(path.name.split("-")[0], path)
    assert (tmp_path / "outputs/sparsity_weight_l1/report.html").exists()
    for code in _blocks("python"):
        exec(compile(code.replace("outputs/default/RUN", str(runs["kl"])), "README.md", "exec"), {})


def limited_fit(arguments: list[str]) -> list[str]:
    """A fit of few small atoms to a thousand images."""
    (coder,) = (a.removeprefix("coder=") for a in arguments if a.startswith("coder="))
    limits = {"data.val_size": "59000"}
    if coder in ("omp", "fista", "ista"):
        limits |= {} if coder == "omp" else {"coder.steps": "10"}
    elif coder == "pca":
        limits |= {"coder.latent_dim": "4"}
    else:
        limits |= {"coder.latent_dim": "16", "coder.n_nonzero": "2,3" if "-m" in arguments else "2"}
        limits |= {"coder.epochs": "1"} if coder == "ksvd" else {}
    kept = [a for a in arguments if a.split("=")[0] not in limits]
    return kept + [f"{key}={value}" for key, value in limits.items()]


def _linear(folder: Path) -> Path | None:
    """The run of ``model=linear`` that an earlier command has trained."""
    return next((folder / "outputs" / "default").glob("l1-w0.01-n128-s1-*"), None)


def test_make_targets_exist_and_are_documented() -> None:
    help_text = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "check", "sweep", "tensorboard", "clean", "install"):
        assert re.search(rf"^  make {target} ", help_text, flags=re.MULTILINE)
    for _, *targets in _commands("make"):
        for target in targets:
            assert f"make {target}" in help_text


def test_tensorboard_serves_the_run(finished_run: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(finished_run.parent), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            assert _wait_for(f"http://127.0.0.1:{port}/data/runs", finished_run.name)
        finally:
            server.terminate()


def _wait_for(url: str, run: str) -> bool:
    """Whether the server lists the run within a minute."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if run in json.load(answer):
                    return True
        except OSError:
            pass
        time.sleep(0.5)
    return False


def test_figures_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
