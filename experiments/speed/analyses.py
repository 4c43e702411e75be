"""Time and memory of the default analysis, `sparse-ae-analyse run=DIR`, measured from outside.

    python experiments/speed/analyses.py

Trains runs of one epoch with 128 and 1024 units first. Their L1 codes are less sparse than after a full training.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WANTED = {128: 20, 1024: 60}
"""Wanted seconds, by number of units."""
METHODS = ("kl", "l1")
ROUNDS = 3


def main() -> None:
    print("| units | `sparsity=` | s, median of 3 | wanted | peak MB of all so far |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for units, wanted in WANTED.items():
            for method in METHODS:
                run = Path(folder) / f"{method}-{units}"
                model = [f"sparsity={method}", f"model.latent_dim={units}", "trainer.max_epochs=1"]
                command("train", *model, f"hydra.run.dir={run}")
                seconds = statistics.median(command("analyse", f"run={run}") for _ in range(ROUNDS))
                peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
                print(f"| {units} | {method} | {seconds:.1f} | {wanted} | {peak:.0f} |", flush=True)


def command(name: str, *arguments: str) -> float:
    """Run an entry point; return the seconds from command to prompt."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"sparse_ae.{name}", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
