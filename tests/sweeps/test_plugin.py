"""What jobs on a launcher of Hydra's are told."""

import pytest
from omegaconf import OmegaConf

from sparse_ae.sweeps.plugin import _threads


@pytest.mark.parametrize(
    ("launcher", "asked", "expected"),
    [
        ({"cpus_per_task": 4}, None, 4),
        ({"ray": {"remote": {"num_cpus": 3}}}, None, 3),
        ({"cpus_per_task": 4}, 2, None),
        ({}, None, None),
    ],
    ids=["Slurm", "Ray", "asked for", "one job after the other"],
)
def test_a_job_has_the_threads_that_its_scheduler_gives_it(
    launcher: dict[str, object], asked: int | None, expected: int | None
) -> None:
    assert _threads(OmegaConf.create({"threads": asked, "hydra": {"launcher": launcher}})) == expected
