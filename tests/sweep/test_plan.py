"""What the experiments that come with the package are made of."""

from collections import Counter
from collections.abc import Iterator

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext
from omegaconf import DictConfig

from sparse_ae.cli.compose import conf_dir
from sparse_ae.sweep.plan import Planned, list_jobs, plan


class Context(HydraContext):
    """All that planning asks of Hydra."""

    def __init__(self) -> None:
        self.config_loader = GlobalHydra.instance().config_loader()


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def planned(*arguments: str) -> list[Planned]:
    config: DictConfig = hydra.compose("train", list(arguments), return_hydra_config=True)
    runs, rejected = plan(Context(), config, list_jobs(Context(), config, arguments))
    assert rejected == []
    return runs


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("sparsity_weight_l1", {"l1": 5}),
        ("sparsity_weight_kl", {"kl": 5}),
        ("l1_vs_kl", {"l1": 3, "kl": 3}),
        ("overcomplete", {"l1": 5, "kl": 5}),
        ("grid", {"l1": 30, "kl": 30}),
    ],
)
def test_experiments_are_the_runs_they_promise(experiment: str, expected: dict[str, int]) -> None:
    names = [run.run.path.name for run in planned(f"experiment={experiment}")]
    assert Counter(name.split("-")[0] for name in names) == expected
    assert len(set(names)) == len(names)


def test_weights_of_the_exercise() -> None:
    runs = planned("experiment=sparsity_weight_l1") + planned("experiment=sparsity_weight_kl")
    weights = [run.run.path.name.split("-w")[1].split("-n")[0] for run in runs]
    assert weights == ["0.0001", "0.001", "0.01", "0.1", "1", "0.001", "0.01", "0.1", "1", "10"]
