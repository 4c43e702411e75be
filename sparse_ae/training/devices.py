"""Devices that train one model, with a process each: how many, who starts the processes, which of them this is."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments import (  # type: ignore[attr-defined]
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.utilities import rank_zero_only

from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError, did_you_mean, listed
from sparse_ae.training.stop import Stopped

_ONE_OF = {"auto": ("tpu", "mps", "cuda", "cpu"), "gpu": ("mps", "cuda")}
"""Accelerators that a word stands for; Lightning takes the first that is available."""

_RANK = ("LOCAL_RANK", "WORLD_SIZE", "RANK", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE")
"""Variables of one process among several."""
_NODE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK")
"""Variables of one node among several."""
_STARTED = ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
"""Numbers that torchrun sets, and Lightning in the processes that it starts."""
_SRUN = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Numbers that srun sets in its tasks. A batch script lacks those of the step, or has them from another job's."""
_JSRUN = ("JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK")
"""Numbers that jsrun sets, the launcher of LSF."""


class _Launcher(NamedTuple):
    """A program that has started this process as one of several."""

    name: str
    size: int
    """Number of processes that it has started."""
    environment: Callable[[], ClusterEnvironment]
    """Maker of Lightning's view of it."""


def check_accelerator(trainer: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` unless this machine has the accelerator that is asked for."""
    name = trainer["accelerator"]
    known = {*_ONE_OF, *AcceleratorRegistry.available_accelerators()}
    if isinstance(name, str) and name not in known:
        raise ConfigError(
            "trainer.accelerator",
            name,
            f"not an accelerator{did_you_mean(name, known)}",
            listed(filter(_available, known)),
        )
    if isinstance(name, str) and not _available(name):
        raise ConfigError("trainer.accelerator", name, "not available on this machine", "cpu or auto")


def cluster_environment(trainer: Mapping[str, Any]) -> ClusterEnvironment:
    """Lightning's view of the processes that train one model, as many as ``trainer`` asks for.

    One device has one process, whatever a scheduler or a shell has left in the environment. Several processes are
    those that srun, torchrun, jsrun or MPI have started. Without such a launcher the first process of each node starts
    the others, and variables that would tell it otherwise are removed. Raises ``ConfigError`` if a launcher has
    started another number of processes, or if there are several nodes and nothing says where.
    """
    devices, nodes = _count_devices(trainer), trainer.get("num_nodes", 1)
    if devices == nodes == 1 and trainer["strategy"] == "auto":
        return LightningEnvironment()
    launcher = _launcher()
    if launcher is not None:
        environment = _environment(launcher)
        if launcher.size != devices * nodes or environment.local_rank() >= devices:
            started = f"{launcher.name} started {launcher.size}, this one as local rank {environment.local_rank()}"
            reason = f"{nodes} x {devices} processes are asked for, and {started}"
            expected = f"{launcher.size} in all, or a start without {launcher.name}"
            raise ConfigError("trainer.devices", trainer["devices"], reason, expected)
        return environment
    if nodes > 1 and not (os.environ.get("MASTER_ADDR") and _are_numbers("MASTER_PORT", "NODE_RANK")):
        expected = "srun, torchrun, or MASTER_ADDR, MASTER_PORT and NODE_RANK in the environment of each node"
        raise ConfigError("trainer.num_nodes", nodes, "nothing says where the nodes are", expected)
    for variable in (*_RANK, *(_NODE if nodes == 1 else ())):
        os.environ.pop(variable, None)
    return LightningEnvironment()


def set_rank(rank: int) -> None:
    """Tell Lightning the rank of this process, which it took from any RANK in the environment when it was imported."""
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


@contextmanager
def stopping_together(trainer: Trainer) -> Iterator[None]:
    """Stop the processes that this one has started if it is stopped itself."""
    try:
        yield
    except Stopped:
        launcher = trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGTERM)
            launcher.procs.clear()  # type: ignore[attr-defined] # Lightning kills this process when one of them fails
        raise


def _launcher() -> _Launcher | None:
    """The launcher of this process, if it is one of several."""
    if os.environ.get("MASTER_ADDR") and _are_numbers(*_STARTED):
        size = int(os.environ["WORLD_SIZE"])
        if TorchElasticEnvironment.detect() and _are_numbers("RANK"):
            return _Launcher("torchrun", size, TorchElasticEnvironment)
        return _Launcher("a launcher that sets LOCAL_RANK", size, LightningEnvironment)
    is_task = _are_numbers(*_SRUN) and os.environ["SLURM_STEP_NUM_TASKS"] == os.environ.get("SLURM_NTASKS")
    is_shell = "SLURM_PTY_PORT" in os.environ  # srun --pty, from the first task of which the others are not used
    if is_task and not is_shell and (size := int(os.environ["SLURM_STEP_NUM_TASKS"])) > 1:
        return _Launcher("srun", size, _slurm)
    if _are_numbers(*_JSRUN) and (size := int(os.environ["JSM_NAMESPACE_SIZE"])) > 1 and LSFEnvironment.detect():
        return _Launcher("jsrun", size, LSFEnvironment)
    if MPIEnvironment.detect():
        return _Launcher("MPI", MPIEnvironment().world_size(), MPIEnvironment)
    return None


def _slurm() -> ClusterEnvironment:
    """Slurm as a launcher and nothing more: signals and requeueing are not Lightning's."""
    per_node = int(os.environ["SLURM_STEP_NUM_TASKS"]) // int(os.environ["SLURM_STEP_NUM_NODES"])
    os.environ["SLURM_NTASKS_PER_NODE"] = str(per_node)  # which Lightning requires, and srun --ntasks=2 leaves out
    return SLURMEnvironment(auto_requeue=False)


def _environment(launcher: _Launcher) -> ClusterEnvironment:
    """Lightning's view of ``launcher``. Raises ``ConfigError`` if that lacks what it needs."""
    try:
        return launcher.environment()
    except (LookupError, OSError, RuntimeError, ValueError) as error:  # a host or a file that the variables name
        raise ConfigError("trainer.devices", reason=f"{launcher.name} started {launcher.size}: {error}") from error


def _are_numbers(*variables: str) -> bool:
    return all(os.environ.get(variable, "").isdigit() for variable in variables)


def _count_devices(trainer: Mapping[str, Any]) -> int:
    """Number of devices on each node. Raises ``ConfigError`` if the machine lacks them."""
    name, devices = trainer["accelerator"], trainer["devices"]
    made = AcceleratorRegistry.get(_available(name)) if isinstance(name, str) else build(name, "trainer.accelerator")
    try:
        chosen = made.parse_devices(made.auto_device_count() if devices == "auto" else devices)
        count = len(made.get_parallel_devices(chosen)) if chosen else 0
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigError("trainer.devices", devices, str(error)) from error
    if not count:
        raise ConfigError("trainer.devices", devices, "no device", "1 or more, or auto")
    return count


def _available(accelerator: str) -> str:
    """Name of the first accelerator that the word stands for and this machine has, empty if there is none."""
    return next(filter(_is_available, _ONE_OF.get(accelerator, (accelerator,))), "")


def _is_available(accelerator: str) -> bool:
    try:
        return bool(AcceleratorRegistry.get(accelerator).is_available())
    except ModuleNotFoundError:  # a plugin's package
        return False
