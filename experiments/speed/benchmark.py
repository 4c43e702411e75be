"""Benchmark of `sparse-ae-train` against two plain loops: ratios, medians of three rounds.

    make benchmark          (or: python experiments/speed/benchmark.py --device cuda --batch 1024)

Ours runs as a user runs it, in a terminal, with logging, progress bar, validation and checkpoints. Its epochs are timed
from outside, by the wall times of consecutive validation results in its TensorBoard file, which include everything.
"""

import argparse
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
RUNS = 3


class Measured(NamedTuple):
    """Measurements of one process."""

    epoch: float
    """Median seconds of the epochs after the first."""
    first_step: float
    """Seconds from command to first step."""
    peak_mb: float
    """Peak memory in MB."""


def run_in_terminal(command: list[str], environment: dict[str, str]) -> tuple[str, float, float]:
    """Run a command in a terminal; return its output, starting time and peak memory (MB)."""
    controller, terminal = pty.openpty()
    output = bytearray()

    def read() -> None:
        while True:
            try:
                chunk = os.read(controller, 1 << 16)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            output.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    started = time.time()
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    _, status, usage = os.wait4(process.pid, 0)
    reader.join()
    os.close(controller)
    text = output.decode(errors="replace")
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{text}")
    return text, started, usage.ru_maxrss / 1024


def baseline(loop: str, root: Path, options: argparse.Namespace, environment: dict[str, str]) -> Measured:
    command = [sys.executable, str(HERE / "baselines.py"), loop, "--root", str(root)]
    command += ["--device", options.device, "--batch", str(options.batch), "--epochs", str(options.epochs)]
    output, started, peak = run_in_terminal(command, environment)
    result = json.loads(output.strip().splitlines()[-1])
    return Measured(statistics.median(result["seconds"][1:]), result["first_step"] - started, peak)


def ours(options: argparse.Namespace, environment: dict[str, str]) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        trainer = "gpu" if options.device == "cuda" else "cpu"
        command = [
            sys.executable,
            "-m",
            "sparse_ae.commands.train",
            f"hydra.run.dir={folder}/run",
            f"trainer={trainer}",
        ]
        command += [f"data.batch_size={options.batch}", f"trainer.max_epochs={options.epochs}"]
        _, _, peak = run_in_terminal(command, environment)
        ends = [event.wall_time for event in scalars(folder, "val/mse")]
        first = [*command[:3], f"hydra.run.dir={folder}/first", *command[4:-1], "trainer.max_epochs=1"]
        first += ["trainer.limit_train_batches=1", "trainer.log_every_n_steps=1"]
        _, started, _ = run_in_terminal(first, environment)
        first_step = scalars(folder, "train/loss", run="first")[0].wall_time - started
    return Measured(statistics.median(b - a for a, b in pairwise(ends)), first_step, peak)


def scalars(folder: str, name: str, run: str = "run") -> list:
    events = EventAccumulator(f"{folder}/{run}", size_guidance={"scalars": 0})
    events.Reload()
    return events.Scalars(name)


def help_seconds(environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sparse_ae.commands.train", "--help"], env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "SPARSE_AE_DATA": data}
        prepare = (
            "from sparse_ae.data.embedded import unpack_mnist as u; import pathlib, sys; u(pathlib.Path(sys.argv[1]))"
        )
        subprocess.run([sys.executable, "-c", prepare, f"{data}/MNIST/raw"], check=True)
        rounds = []
        for number in range(RUNS):  # in turn, so that drifts in the speed of the machine affect all three
            a = baseline("plain", Path(data), options, environment)
            b = baseline("lean", Path(data), options, environment)
            o = ours(options, environment)
            rounds.append((a, b, o, help_seconds(environment)))
            print(
                f"round {number + 1}: A {a.epoch:.2f}  B {b.epoch:.2f}  ours {o.epoch:.2f} s/epoch",
                flush=True,
            )
    median = statistics.median
    print(f"\n{options.device}, batch {options.batch}, {os.cpu_count()} cores; medians of {RUNS} rounds\n")
    print("| | s/epoch | peak MB | s from command to first step |\n|---|---|---|---|")
    names = (
        "A: dataset, ToTensor, DataLoader, Adam, .item()",
        "B: resident tensor, fused Adam, nothing else",
        "ours",
    )
    for column, name in enumerate(names):
        epoch, first, peak = (median(r[column][i] for r in rounds) for i in range(3))
        print(f"| {name} | {epoch:.2f} | {peak:.0f} | {first:.1f} |")
    print(f"\nA / ours: {median(a.epoch / o.epoch for a, _, o, _ in rounds):.2f}  (wanted: at least 3)")
    print(f"ours / B: {median(o.epoch / b.epoch for _, b, o, _ in rounds):.2f}  (wanted: at most 1.2)")
    print(
        f"peak memory, ours - A: {median(o.peak_mb - a.peak_mb for a, _, o, _ in rounds):.0f} MB  (wanted: at most 300)"
    )
    print(f"--help: {median(r[3] for r in rounds):.1f} s  (wanted: under 3)")


if __name__ == "__main__":
    main()
