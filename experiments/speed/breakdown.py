"""Breakdown of the time of an epoch: the same steps with one more part each time, medians of five epochs.

python experiments/speed/breakdown.py
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import Callback

from sparse_ae.cli.compose import compose, composing, task_config
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.run.directory import Run
from sparse_ae.training.checkpointing import RunCheckpoint
from sparse_ae.training.progress import StatusProgress

EPOCHS = 5


class Clock(Callback):
    """Records seconds of the training steps and of the validation of each epoch."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validation: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_validation_start(self, *_: object) -> None:
        self.steps.append(time.perf_counter() - self.start)
        self.start = time.perf_counter()

    def on_validation_end(self, *_: object) -> None:
        self.validation.append(time.perf_counter() - self.start)


class Spent:
    """Records seconds inside the callbacks that keep a run safe."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self.seconds = 0.0
        for callback in callbacks:
            for hook in ("on_train_batch_start", "on_train_batch_end", "on_train_epoch_end"):
                setattr(callback, hook, self._timed(getattr(callback, hook)))

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: object) -> None:
            start = time.perf_counter()
            hook(*arguments)
            self.seconds += time.perf_counter() - start

        return timed


def fresh(folder: str) -> AutoencoderJob:
    with composing():
        config = task_config(compose("train", [f"trainer.max_epochs={EPOCHS}"]))
    job = AutoencoderJob(config, Run(Path(folder)))
    job.data.prepare_data()
    return job


def seconds(job: AutoencoderJob, *, backward: bool, step: bool, forward: bool) -> float:
    """Time a plain loop over the loader with the given parts of a training step; return median seconds per epoch."""
    objective, loader = job.module.objective, job.data.train_dataloader()
    optimizer = job.module.make_optimizer(objective.parameters())
    times = []
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        start = time.perf_counter()
        for x, target, _ in loader:
            if forward:
                loss = objective(x, target).loss
            if backward:
                optimizer.zero_grad()
                loss.backward()
            if step:
                optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def lightning(job: AutoencoderJob, keep: Callable[[Callback], bool]) -> Clock:
    clock = Clock()
    trainer = job.trainer
    trainer.callbacks = [clock, *(callback for callback in trainer.callbacks if keep(callback))]
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(job.module, datamodule=job.data)
    return clock


def main() -> None:
    median = statistics.median
    with tempfile.TemporaryDirectory() as folder:
        rows = {"batches": seconds(fresh(folder), forward=False, backward=False, step=False)}
        rows["+ forward"] = seconds(fresh(folder), forward=True, backward=False, step=False)
        rows["+ backward"] = seconds(fresh(folder), forward=True, backward=True, step=False)
        rows["+ optimizer"] = seconds(fresh(folder), forward=True, backward=True, step=True)
        rows["+ Lightning's loop, logging"] = median(lightning(fresh(folder), lambda _: False).steps)
        whole, run = fresh(folder), Run(Path(folder))
        safety = Spent([c for c in whole.trainer.callbacks if isinstance(c, RunCheckpoint | StatusProgress)])
        start = time.perf_counter()
        with run.lock():
            run.start(config=whole.config, resumed=False, sources={}, threads=torch.get_num_threads())
            began = time.perf_counter() - start
            clock = lightning(whole, lambda _: True)
        rows["+ progress, images, checkpoints"] = median(clock.steps)
    print(
        f"seconds per epoch of 430 steps, {torch.get_num_threads()} threads\n\n| | total | this part |\n|---|---|---|"
    )
    before = 0.0
    for name, total in rows.items():
        print(f"| {name} | {total:.2f} | {total - before:.2f} |")
        before = total
    print(f"| + validation | {before + median(clock.validation):.2f} | {median(clock.validation):.2f} |")
    epochs = sum(clock.steps) + sum(clock.validation)
    print(f"\ncheckpoints and status: {safety.seconds / epochs:.1%} of all epochs  (wanted: less than 3 %)")
    print(f"lock and first status: {began:.3f} s, once a run")


if __name__ == "__main__":
    main()
