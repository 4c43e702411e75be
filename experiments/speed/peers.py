"""TopK steps of ours against those of SAELens: 1024 units, k = 32, batch 256, medians of three rounds.

    python -m venv peers && peers/bin/pip install sae-lens==6.54.12
    python -m experiments.speed.peers --python peers/bin/python

SAELens needs an environment of its own, as it is not a dependency. Both train on MNIST in memory, with AuxK for dead
units and their own defaults: SAELens with its progress bar, ours with validation, logging and checkpoints as well.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from experiments.speed.benchmark import HERE, RUNS, run_in_terminal, scalars
from sparse_ae.data.embedded import unpack_mnist

IMAGES = 60_000


def peer(python: str, images: Path, epochs: int, environment: dict[str, str]) -> float:
    """Train with SAELens; return median seconds per 60,000 images, the first epoch left out."""
    command = [python, str(HERE / "saelens_topk.py"), str(images), "--epochs", str(epochs)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return statistics.median(json.loads(output.strip().splitlines()[-1])["seconds"][1:])


def ours(epochs: int, environment: dict[str, str]) -> float:
    """Train with ours; return median seconds per 60,000 images between two validations."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sparse_ae.commands.train", f"hydra.run.dir={folder}/run", "trainer=cpu"]
        command += ["model=linear", "model.latent_dim=1024", "sparsity=topk", "sparsity.k=32", "dead=auxk"]
        command += ["data.batch_size=256", "optimizer.lr=1e-3", f"trainer.max_epochs={epochs}"]
        run_in_terminal(command, environment)
        events = scalars(folder, "val/mse")
    steps = events[0].step
    epoch = statistics.median(b.wall_time - a.wall_time for a, b in pairwise(events))
    return epoch / steps * IMAGES / 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="an interpreter that has sae-lens")
    parser.add_argument("--epochs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        raw = Path(data) / "MNIST" / "raw"
        unpack_mnist(raw)
        environment = {**os.environ, "SPARSE_AE_DATA": data}
        rounds = []
        for number in range(RUNS):
            theirs = peer(options.python, raw / "train-images-idx3-ubyte", options.epochs, environment)
            rounds.append((theirs, ours(options.epochs, environment)))
            print(f"round {number + 1}: SAELens {theirs:.2f}  ours {rounds[-1][1]:.2f} s per 60,000 images", flush=True)
    ratio = statistics.median(own / theirs for theirs, own in rounds)
    print(f"\nours / SAELens: {ratio:.2f}  (wanted: at most 0.6)")


if __name__ == "__main__":
    main()
