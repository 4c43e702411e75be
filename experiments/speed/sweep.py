"""Benchmark of ``make sweep`` without its report, ten runs, against ten runs of the plain loop: one ratio.

    make benchmark          (or: python experiments/speed/sweep.py --baseline-runs 4)

Whole commands are timed, from typing to prompt. Runs of the loop are alike, so `--baseline-runs` stand for all ten. The
sweep is timed with the matrix precision of its experiments and with float32 products as in the loop, each as it is
started, with five runs in a process, and with a process for each run (`hydra.launcher.pack=off`).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
RUNS = 10
FLOAT32, ALONE = "matmul_precision=highest", "hydra.launcher.pack=off"
WAYS = {
    "as they are": [],
    "as they are, a process for each run": [ALONE],
    "products in float32": [FLOAT32],
    "products in float32, a process for each run": [FLOAT32, ALONE],
}


def seconds(command: list[str], environment: dict[str, str], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--baseline-runs", type=int, default=4, choices=range(4, 11))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SPARSE_AE_DATA": f"{folder}/data"}
        unpack = (
            "import pathlib, sys; from sparse_ae.data.embedded import unpack_mnist as u; u(pathlib.Path(sys.argv[1]))"
        )
        subprocess.run([sys.executable, "-c", unpack, f"{folder}/data/MNIST/raw"], check=True)
        loop = [sys.executable, str(HERE / "baselines.py"), "plain", "--root", f"{folder}/data"]
        sweep = [
            sys.executable,
            "-m",
            "sparse_ae.commands.train",
            "-m",
            "experiment=sparsity_weight_l1,sparsity_weight_kl",
        ]
        baseline: list[float] = []
        ours: dict[str, float] = {}
        for number in range(options.baseline_runs):  # ours in between, as the speed of the machine drifts
            baseline.append(seconds([*loop, "--epochs", str(options.epochs)], environment, folder))
            print(f"loop, one run: {baseline[-1]:.1f} s", flush=True)
            if number < len(WAYS):
                name, overrides = list(WAYS.items())[number]
                command = [*sweep, f"hydra.sweep.dir={number}", f"trainer.max_epochs={options.epochs}", *overrides]
                ours[name] = seconds(command, environment, folder)
                print(f"ours, ten runs, {name}: {ours[name]:.1f} s", flush=True)
    ten = RUNS * statistics.mean(baseline)
    print(f"\n{os.cpu_count()} cores, {options.epochs} epochs, ten runs: the loop {ten:.0f} s")
    for name, taken in ours.items():
        print(f"ours, {name}: {taken:.0f} s, loop / ours {ten / taken:.2f} (wanted: at least 5)")
    for name in ("as they are", "products in float32"):
        ratio = ours[f"{name}, a process for each run"] / ours[name]
        print(f"a process for each run / packed, {name}: {ratio:.2f} (wanted: at least 1.35)")


if __name__ == "__main__":
    main()
