"""Training as a user runs it, one run and packs of them, against the plain loop."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from experiments.speed import baselines
from experiments.speed.benchmark import scalars
from experiments.speed.clock import table
from experiments.speed.gpu.sizes import OF
from sparse_ae.data.embedded import unpack_mnist

BATCH = 128


def report(device: str) -> None:
    """Print the table. Epochs of ours are timed from one validation result to the next, everything included."""
    sizes, steps, plain = OF[device], -(-OF[device].images // BATCH), list[float]()
    found: dict[int, float] = {}

    def rows(root: Path) -> Iterator[tuple[str, ...]]:
        for members in (1, *sizes.members):
            plain.extend(baselines.plain(str(root), device, BATCH, 2, sizes.images)[0][1:])
            found[members] = epoch(device, members, root)
        loop = statistics.median(plain)
        yield "plain loop", f"{loop:.3f}", f"{steps / loop:,.0f}", "1"
        for members, taken in found.items():
            name = "one run" if members == 1 else f"{members} packed runs"
            rate = members * steps / taken
            yield name, f"{taken:.3f}", f"{rate:,.0f}", f"{rate * loop / steps:.1f}"

    with tempfile.TemporaryDirectory() as folder:
        unpack_mnist(Path(folder) / "MNIST" / "raw")
        title = f"Training: the default run, batches of {BATCH}, {steps} an epoch"
        table(title, ("", "s per epoch", "steps per second", "to the plain loop"), rows(Path(folder)))
    few, many = sizes.members
    print(f"\n{many} packed runs take {found[many] / found[few]:.2f} times as long as {few}", end="")
    print("; wanted: one run 10, ten packed 100 times the plain loop, 60 at most 3 times as long" * (device == "cuda"))


def epoch(device: str, members: int, data: Path) -> float:
    """Train that many runs of different sparsity weights with one command; return median seconds per epoch."""
    sizes = OF[device]
    weights = [f"{0.001 * 1000 ** (number / max(members - 1, 1)):.5f}" for number in range(members)]
    options = [
        f"trainer.accelerator={device}",
        f"trainer.max_epochs={sizes.epochs}",
        f"trainer.limit_train_batches={-(-sizes.images // BATCH)}",
        f"data.batch_size={BATCH}",
        f"sparsity.coefficient={','.join(weights)}",
        f"hydra.launcher.pack={members}",
        "hydra.launcher.n_jobs=1",
        "hydra.sweep.dir=sweep",
        "analysis=[]",
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sparse_ae.commands.train", "-m", *options]
        environment = {**os.environ, "SPARSE_AE_DATA": str(data)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        first = next(path.parent.name for path in sorted(Path(folder, "sweep").glob("*/status.json")))
        events = scalars(f"{folder}/sweep", "val/mse", run=first)
    return statistics.median(b.wall_time - a.wall_time for a, b in pairwise(events))
