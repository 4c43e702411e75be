"""Ranks: of one device whatever the environment says, and of several as their launcher says."""

import functools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    LSFEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities import rank_zero_only

from sparse_ae.config.errors import ConfigError
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.jobs.coder import CoderJob
from sparse_ae.run.directory import Run
from tests.helpers import Cli, plain_config

BATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "mine",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
"""A batch script: Slurm sets its rank, though it is no task."""
SALLOC = {name: value for name, value in BATCH.items() if "ID" not in name} | {"SLURM_JOB_NAME": "interactive"}
SHELL = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "mine", "SLURM_NTASKS_PER_NODE": "4"}


def srun(tasks: int, rank: int, nodes: int = 1) -> dict[str, str]:
    """The variables of a task of ``srun --ntasks``."""
    local, step = tasks // nodes, {"SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NUM_NODES": str(nodes)}
    ranks = {"PROCID": rank, "LOCALID": rank % local, "NODEID": rank // local, "NTASKS": tasks, "NNODES": nodes}
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "mine", **step, **{f"SLURM_{k}": str(v) for k, v in ranks.items()}}


CHILD = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}
"""A process that Lightning itself has started."""
TORCHRUN = {**CHILD, "RANK": "1", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
JSRUN = {"LSB_JOBID": "7", "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_LOCAL_RANK": "1"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMI_RANK": "3", "PMIX_RANK": "3"}
NODE = {"MASTER_ADDR": "10.0.0.9", "MASTER_PORT": "29400", "NODE_RANK": "1"}
ALONE = ["RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK"]
STRAY: dict[str, dict[str, str]] = {
    **{name: {name: "3"} for name in ALONE},
    "an address": {"MASTER_ADDR": "10.0.0.9", "MASTER_PORT": "1"},
    "a name of torchrun": {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True"},
    "a rank of MPI": MPI,
    "a shell in Slurm": SHELL,
    "a batch script": BATCH,
    "salloc": SALLOC,
    "srun --pty bash": {**srun(4, 0), "SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "36489"},
    "sbatch in a shell of srun": {**srun(1, 0), **BATCH},
    "srun -n 1": srun(1, 0),
}
"""Variables that do not come from a launcher of several processes."""
DDP = ("trainer=ddp", "trainer.accelerator=cpu")

Build = Callable[..., AutoencoderJob]
composed = functools.cache(plain_config)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Build a job where ``variables`` are set, as Lightning sees them that was imported where RANK was 3."""
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    scheduler = [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "PMI_")) or name in ALONE]

    def make(variables: dict[str, str], *overrides: str) -> AutoencoderJob:
        for name in scheduler:
            del os.environ[name]
        os.environ.update(variables)
        return AutoencoderJob(composed(*overrides), Run(tmp_path / "run"))

    with patch.dict(os.environ):
        yield make


@pytest.fixture
def hosts(tmp_path: Path) -> dict[str, str]:
    """The variable of LSF that names a file of hosts: that of the launcher, then one for each process."""
    file = tmp_path / "hosts"
    file.write_text(f"launcher\n{socket.gethostname()}\n{socket.gethostname()}\n")
    return {"LSB_DJOB_RANKFILE": str(file)}


@pytest.mark.parametrize(
    "variables", [*STRAY.values(), srun(4, 3), TORCHRUN, CHILD], ids=[*STRAY, "srun", "torchrun", "child"]
)
def test_one_device_is_rank_0(build: Build, variables: dict[str, str]) -> None:
    job = build(variables, "trainer=cpu")
    assert (job.trainer.global_rank, job.trainer.world_size, rank_zero_only.rank) == (0, 1, 0)
    assert job.is_main_process
    assert isinstance(job.trainer._accelerator_connector.cluster_environment, LightningEnvironment)


def test_one_device_reads_no_file_of_hosts(build: Build) -> None:
    job = build({**JSRUN, "LSB_DJOB_RANKFILE": "/no/such/file"}, "trainer=auto")
    assert (job.trainer.global_rank, rank_zero_only.rank) == (0, 0)


def test_coder_is_rank_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    CoderJob(plain_config(name="fit"), Run(tmp_path / "run"))
    assert rank_zero_only.rank == 0


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("variables", STRAY.values(), ids=STRAY)
def test_first_process_starts_the_others(build: Build, variables: dict[str, str], devices: int) -> None:
    job = build(variables, *DDP, f"trainer.devices={devices}")
    trainer: Any = job.trainer
    environment = trainer.strategy.cluster_environment
    assert (trainer.global_rank, trainer.world_size, rank_zero_only.rank) == (0, devices, 0)
    assert (environment.main_address, environment.creates_processes_externally) == ("127.0.0.1", False)
    assert environment.main_port != 1


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        (srun(2, 1), SLURMEnvironment),
        ({**SALLOC, **srun(2, 1), "SLURM_JOB_NAME": "interactive", "SLURM_NTASKS_PER_NODE": "4"}, SLURMEnvironment),
        (TORCHRUN, TorchElasticEnvironment),
        (JSRUN, LSFEnvironment),
        (CHILD, LightningEnvironment),
    ],
    ids=["srun", "srun in salloc", "torchrun", "jsrun", "Lightning"],
)
@pytest.mark.parametrize("shell", [{}, SHELL], ids=["", "in Slurm"])
def test_launcher_has_started_the_others(
    build: Build, hosts: dict[str, str], variables: dict[str, str], kind: type, shell: dict[str, str]
) -> None:
    job = build({**shell, **variables, **hosts}, *DDP, "trainer.devices=2")
    trainer: Any = job.trainer
    environment = trainer.strategy.cluster_environment
    assert type(environment) is kind
    assert environment.creates_processes_externally
    assert (trainer.global_rank, trainer.local_rank, trainer.world_size, rank_zero_only.rank) == (1, 1, 2, 1)
    assert not job.is_main_process
    assert not getattr(environment, "auto_requeue", False)


@pytest.mark.parametrize(
    ("variables", "starts", "rank"),
    [
        (NODE, True, 2),
        ({**NODE, "RANK": "5"}, True, 2),
        ({**NODE, "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, False, 3),
        (srun(4, 3, nodes=2), False, 3),
    ],
    ids=["by hand", "and a stray rank", "its child", "srun"],
)
def test_two_nodes(build: Build, variables: dict[str, str], starts: bool, rank: int) -> None:
    trainer: Any = build(variables, *DDP, "trainer.devices=2", "+trainer.num_nodes=2").trainer
    assert (trainer.global_rank, trainer.world_size) == (rank, 4)
    assert trainer.strategy.cluster_environment.creates_processes_externally != starts


@pytest.mark.parametrize(
    ("variables", "overrides", "message"),
    [
        (
            srun(4, 3),
            [],
            "trainer.devices=2: 1 x 2 processes are asked for, and srun started 4, this one as local rank 3",
        ),
        (
            TORCHRUN,
            ["trainer.devices=1"],
            r"trainer.devices=1: 1 x 1 .* \(expected 2 in all, or a start without torchrun\)",
        ),
        ({**CHILD, "WORLD_SIZE": "3"}, [], "trainer.devices=2: .* LOCAL_RANK started 3, "),
        ({**CHILD, "LOCAL_RANK": "2"}, [], "trainer.devices=2: .* this one as local rank 2"),
        ({**JSRUN, "LSB_DJOB_RANKFILE": "/no/such/file"}, [], "trainer.devices: jsrun started 2: .*/no/such/file"),
        ({}, ["+trainer.num_nodes=2"], "trainer.num_nodes=2: nothing says where the nodes are"),
        (BATCH, ["+trainer.num_nodes=2"], "trainer.num_nodes=2: nothing says where the nodes are"),
        ({}, ["trainer.devices=0"], "trainer.devices=0: "),
        ({}, ["trainer.devices=few"], "trainer.devices=few: "),
    ],
)
def test_refused(build: Build, variables: dict[str, str], overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(variables, *DDP, "trainer.devices=2", *overrides)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"])
def test_rank_that_is_no_number(cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Lightning could not be imported."""
    monkeypatch.setenv(variable, "")
    assert "no such folder" in cli("sparse-ae-evaluate", "run=none").err
    assert variable not in os.environ
