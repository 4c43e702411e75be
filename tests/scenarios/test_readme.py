"""Every command and code block of the README."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import COMMANDS, ROOT, Cli
from tests.scenarios.documented import LIMITS, blocks, check, commands, limited_fit

README = ROOT / "README.md"


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, language_model: Path) -> None:
    """The files that the README calls a user's own."""
    for name in ("MODEL", "corpus"):
        (tmp_path / name).symlink_to(language_model / name)
    x = np.random.default_rng(0).random((200, 12), dtype=np.float32)
    np.savez(tmp_path / "train.npz", x=x, y=np.arange(200) % 3)
    np.savez(tmp_path / "test.npz", x=x[:50], y=np.arange(50) % 3)
    (tmp_path / "photos").mkdir()
    for i, row in enumerate(x):
        Image.fromarray(np.uint8(255 * row.reshape(3, 4))).save(tmp_path / "photos" / f"{i}.png")


def ours() -> list[list[str]]:
    """The command lines of the README that are ours, as words."""
    return [words for words in commands(README) if words[0] in COMMANDS]


def test_programs() -> None:
    """Every command line is of a kind that is tested here."""
    assert {words[0] for words in commands(README)} == {*COMMANDS, "make", "tensorboard"}


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_command(words: list[str], cli: Cli, finished_run: Path, linear_run: Path) -> None:
    """Composed, checked and built; nothing is trained."""
    program, *arguments = words
    if "experiment=natural_patches" in arguments:
        arguments.append("data.n=500")  # which are made
    check(cli, program, arguments, {"RUN": finished_run, "LINEAR": linear_run})


@pytest.mark.filterwarnings("ignore::FutureWarning:lightning")  # of torch's trees
def test_python(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are one session."""
    monkeypatch.chdir(tmp_path)
    code = "".join(blocks(README, "python")).replace("outputs/default/RUN", str(finished_run))
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.slow
def test_commands_executed(cli: Cli, tmp_path: Path) -> None:
    runs: dict[str, Path] = {}
    for program, *arguments in ours():
        penalty = "l1" if "sparsity=l1" in arguments else "kl"
        if program == "sparse-ae-train":
            own = {argument.split("=")[0] for argument in arguments}
            arguments += [limit for limit in LIMITS if limit.split("=")[0] not in own]
            if "hydra/sweeper=search" in arguments:
                arguments.append("hydra.sweeper.n_trials=4")
        if program == "sparse-ae-fit":
            arguments = limited_fit(arguments)
        arguments = [a.replace("outputs/default/RUN", str(runs.get(penalty))) for a in arguments]
        arguments = [a.replace("outputs/default/LINEAR", str(_linear(tmp_path))) for a in arguments]
        outcome = cli(program, *arguments)
        assert outcome.code == 0, (program, arguments, outcome.err)
        for path in (tmp_path / "outputs" / "default").glob("*-w0.01-n128-s42-*"):  # those of the default options
            runs.setdefault(path.name.split("-")[0], path)
    assert (tmp_path / "outputs/default/report.html").exists()


def _linear(folder: Path) -> Path | None:
    """The run of ``model=linear`` that an earlier command has trained."""
    return next((folder / "outputs" / "default").glob("l1-w0.01-n128-s1-*"), None)


def test_make_targets() -> None:
    help_text = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "check", "sweep", "tensorboard", "clean", "install"):
        assert re.search(rf"^  make {target} ", help_text, flags=re.MULTILINE)
    for program, *targets in commands(README):
        for target in targets if program == "make" else ():
            assert f"make {target}" in help_text


@pytest.mark.slow
def test_tensorboard(finished_run: Path) -> None:
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
    """True if the server lists the run within a minute."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if run in json.load(answer):
                    return True
        except OSError:
            pass
        time.sleep(0.5)
    return False


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target
