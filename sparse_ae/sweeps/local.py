"""Jobs in parallel on one machine: how many, with how many threads, on which GPU."""

import os
import queue
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import joblib
import psutil
from pydantic import PositiveInt

from sparse_ae.reporting.console import tell
from sparse_ae.sweeps.packs import PackSize, described, largest_pack, packs
from sparse_ae.sweeps.process import JobSpec, run_isolated

_BYTES_PER_JOB = 1.5 * 2**30
"""Memory of a job of the default size, and half as much again."""


class Share(NamedTuple):
    """Division of the machine between jobs."""

    jobs: int
    """Number of jobs at a time."""
    threads: int
    """Threads of each job; jobs x threads are not more than the cores, unless asked for."""
    gpus: list[str]
    """GPU of each of the ``jobs``, as CUDA_VISIBLE_DEVICES names it; empty without GPUs."""


def share(
    todo: int,
    *,
    n_jobs: int | None,
    jobs_per_gpu: int,
    threads: int | None,
    gpus: Sequence[str],
    cores: int,
    memory: float,
) -> Share:
    """Divide a machine of ``cores`` and ``memory`` bytes between ``todo`` jobs.

    ``n_jobs`` at a time or, if None, as many as there are cores for the ``threads`` of each (one, if None), or
    ``jobs_per_gpu`` per GPU. Threads that outnumber the cores make jobs many times slower, so each job gets its own.
    """
    slots = list(gpus) * jobs_per_gpu
    most = len(slots) or min(max(1, cores // (threads or 1)), max(1, int(memory / _BYTES_PER_JOB)))
    jobs = max(1, min(n_jobs or most, todo))
    return Share(jobs, threads or max(1, cores // jobs), [slots[i % len(slots)] for i in range(jobs)] if slots else [])


def visible_gpus() -> list[str]:
    """GPUs that this process may use."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def free_gpu_memory(gpus: Sequence[str]) -> float | None:
    """Free memory of the fullest of ``gpus`` in bytes, as their driver tells it; None if it does not."""
    command = ["nvidia-smi", f"--id={','.join(gpus)}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
        return min(float(line) for line in told.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


class LocalLauncher:
    """Jobs in parallel on this machine, in processes with a share of the cores, on a free GPU."""

    def __init__(
        self, n_jobs: PositiveInt | None = None, jobs_per_gpu: PositiveInt = 1, pack: PackSize = "auto"
    ) -> None:
        """``n_jobs`` processes at a time; None: as many as the machine has room for. Up to ``pack`` jobs of one program
        train together in a process.
        """
        self.n_jobs = n_jobs
        self.jobs_per_gpu = jobs_per_gpu
        self.pack = pack
        self._told = ""

    def divide(self, todo: int, config: Mapping[str, Any]) -> Share:
        """Divide this machine between ``todo`` processes with a ``config`` such as this."""
        asked = config.get("trainer", {}).get("accelerator") or config["data"].get("device")
        return share(
            todo,
            n_jobs=self.n_jobs,
            jobs_per_gpu=self.jobs_per_gpu,
            threads=config["threads"],
            gpus=[] if asked == "cpu" else visible_gpus(),
            cores=joblib.cpu_count(),  # respects a container's limit
            memory=psutil.virtual_memory().available,
        )

    def launch(self, jobs: Sequence[JobSpec]) -> None:
        """Execute ``jobs`` and wait for their end."""
        config = jobs[0].config
        todo = self._packs(jobs)
        divided = self.divide(len(todo), config)
        each = f"{divided.threads} thread{'s' if divided.threads > 1 else ''} each"
        on = f", on GPU {', '.join(dict.fromkeys(divided.gpus))}" if divided.gpus else ""
        told = f"{divided.jobs} at a time, {each}{on} ({joblib.cpu_count()} cores)"
        if packed := described(todo):
            told = f"{packed}, {told}"
        if told != self._told:
            tell(told)
            self._told = told

        free: queue.Queue[str | None] = queue.Queue()
        for slot in range(divided.jobs):
            free.put(divided.gpus[slot] if divided.gpus else None)

        environment = dict(os.environ)

        def execute(pack: Sequence[JobSpec]) -> None:
            gpu = free.get()
            given = [job._replace(config={**job.config, "threads": divided.threads}) for job in pack]
            try:
                run_isolated(given, gpu, environment)
            finally:
                free.put(gpu)

        with ThreadPoolExecutor(divided.jobs) as pool:
            for ended in [pool.submit(execute, pack) for pack in todo]:
                ended.result()

    def _packs(self, jobs: Sequence[JobSpec]) -> list[list[JobSpec]]:
        if self.pack == "off":
            return [[job] for job in jobs]
        divided = self.divide(len(jobs), jobs[0].config)
        gpus = list(dict.fromkeys(divided.gpus))
        memory = free_gpu_memory(gpus) if gpus else float(psutil.virtual_memory().available)
        sharing = self.jobs_per_gpu if gpus else divided.jobs
        own = None if memory is None else memory / sharing - _BYTES_PER_JOB
        limit = partial(largest_pack, size=self.pack, on_gpu=bool(gpus), memory=own)
        return packs(jobs, limit, divided.jobs)
