"""Flags by which a command answers a question instead of making a run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import sparse_ae
from tests.helpers import COMMANDS, Cli


@pytest.fixture(autouse=True)
def _put_back_logging() -> Iterator[None]:
    """Hydra prints ``--info`` through a handler of its own."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.parametrize("about", ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"])
def test_info(cli: Cli, tmp_path: Path, about: str) -> None:
    outcome = cli("sparse-ae-train", "sparsity=l1", "hydra.run.dir=out/lr=0.1", "--info", about)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out
    assert list(tmp_path.iterdir()) == []


def test_cfg(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("sparse-ae-fit", "--cfg", "job", "coder=pca", "--resolve", "data.root=a=b")
    config = yaml.safe_load(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert config["coder"] == {"_target_": "sparse_ae.coders.PCA", "latent_dim": 32}
    assert config["data"]["root"] == "a=b"
    outcome = cli("sparse-ae-train", "--cfg", "hydra", "--package", "hydra.run", "hydra.run.dir=out/lr=0.1")
    assert outcome.out == "# @package hydra.run\ndir: out/lr=0.1\n"
    assert cli("sparse-ae-train", "-c", "all", "-p", "model.latent_dim").out == "128\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_version(cli: Cli, command: str) -> None:
    assert cli(command, "--version").out == f"{command} {sparse_ae.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", pytest.param("fish", marks=pytest.mark.slow)])
def test_completion(cli: Cli, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    assert "-sc query=" in cli("sparse-ae-train", "-sc", f"install={shell}").out
    assert cli("sparse-ae-train", "-sc", f"uninstall={shell}").code == 0

    def words(command: str, typed: str) -> set[str]:
        monkeypatch.setenv("COMP_LINE", f"{command} {typed}")
        outcome = cli(command, "--shell-completion", f"query={shell}")
        assert (outcome.code, outcome.err) == (0, "")
        return set(outcome.out.split())

    train, fit = words("sparse-ae-train", ""), words("sparse-ae-fit", "")
    assert {"data=", "model=", "experiment="} <= train
    assert {"data=", "coder="} <= fit
    assert "coder=" not in train
    assert not {"model=", "experiment=", "sparsity="} & fit
    assert words("sparse-ae-train", "hydra/sweeper=") == {"hydra/sweeper=grid", "hydra/sweeper=search"}
    assert words("sparse-ae-train", "sparsity=l") == {"sparsity=l1"}


def test_a_flag_may_stand_anywhere(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(
        "sparse-ae-train", "seed=1", "--cfg", "job", "sparsity=l1", "-p", "sparsity", "sparsity.coefficient=3"
    )
    assert yaml.safe_load(outcome.out)["coefficient"] == 3
    outcome = cli("sparse-ae-train", "seed=1", "-m", "sparsity=l1", "sparsity.coefficient=-1,-2")
    assert outcome.err.count("sparsity.coefficient=-") == 2
