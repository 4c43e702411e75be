"""Runs that the experiments of ``conf/experiment`` are made of."""

from collections import Counter

import pytest

from sparse_ae.cli.compose import compose, composing
from sparse_ae.sweeps.grid import list_jobs
from sparse_ae.sweeps.plan import Planned, plan


def planned(*arguments: str) -> list[Planned]:
    with composing():
        config = compose("train", list(arguments))
        runs, rejected = plan("sparse_ae.jobs.autoencoder:AutoencoderJob", config, list_jobs(config, arguments))
    assert rejected == []
    return runs


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("sparsity_weight_l1", {"l1": 5}),
        ("sparsity_weight_kl", {"kl": 5}),
        ("l1_vs_kl", {"l1": 3, "kl": 3}),
        ("overcomplete", {"l1": 5, "kl": 5}),
        pytest.param("grid", {"l1": 30, "kl": 30}, marks=pytest.mark.slow),
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
