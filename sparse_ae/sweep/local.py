"""Jobs in parallel on one machine: how many, with how many threads, on which GPU."""

import os
import queue
import threading
from collections.abc import Sequence
from typing import NamedTuple

import joblib
import psutil
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from sparse_ae.sweep.plan import compose_job
from sparse_ae.sweep.process import run_isolated

_BYTES_PER_JOB = 1.5 * 2**30
"""What a job of the default size takes, and half as much again."""


class Share(NamedTuple):
    """How the machine is divided between jobs."""

    jobs: int
    """So many at a time."""
    threads: int
    """Of each; jobs x threads are not more than the cores, unless asked for."""
    gpus: list[str]
    """The GPU of each of the ``jobs``, by the names that CUDA_VISIBLE_DEVICES takes; empty without GPUs."""


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
    """Divide a machine of so many cores and bytes between ``todo`` jobs: ``n_jobs`` at a time or, if None, as many as
    there are cores for the ``threads`` of each (one, if None) or ``jobs_per_gpu`` per GPU.

    Threads that outnumber the cores make jobs not a little but many times slower, so each job gets its own.
    """
    slots = list(gpus) * jobs_per_gpu
    most = len(slots) or min(max(1, cores // (threads or 1)), max(1, int(memory / _BYTES_PER_JOB)))
    jobs = max(1, min(n_jobs or most, todo))
    return Share(jobs, threads or max(1, cores // jobs), [slots[i % len(slots)] for i in range(jobs)] if slots else [])


def visible_gpus() -> list[str]:
    """The GPUs that this process may use."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def launch(
    context: HydraContext, config: DictConfig, jobs: Sequence[Sequence[str]], *, n_jobs: int | None, jobs_per_gpu: int
) -> None:
    """Train every job, each in a process of its own, with its share of the cores, on a GPU that is free."""
    asked = OmegaConf.select(config, "trainer.accelerator") or config.data.device
    gpus = [] if asked == "cpu" else visible_gpus()
    memory = psutil.virtual_memory().available
    cores = joblib.cpu_count()
    divided = share(
        len(jobs),
        n_jobs=n_jobs,
        jobs_per_gpu=jobs_per_gpu,
        threads=config.threads,
        gpus=gpus,
        cores=cores,
        memory=memory,
    )
    each = f"{divided.threads} thread{'s' if divided.threads > 1 else ''} each"
    on = f", on GPU {', '.join(dict.fromkeys(divided.gpus))}" if divided.gpus else ""
    print(f"{divided.jobs} at a time, {each}{on} ({cores} cores)", flush=True)

    free: queue.Queue[str | None] = queue.Queue()
    for slot in range(divided.jobs):
        free.put(divided.gpus[slot] if divided.gpus else None)
    composing = threading.Lock()  # Hydra has one global state

    def train(overrides: Sequence[str]) -> None:
        with composing:
            job = compose_job(context, config, [*overrides, f"threads={divided.threads}"])
        gpu = free.get()
        try:
            run_isolated(job, gpu)
        finally:
            free.put(gpu)

    joblib.Parallel(n_jobs=divided.jobs, backend="threading", batch_size=1, pre_dispatch="all")(
        joblib.delayed(train)(overrides) for overrides in jobs
    )
