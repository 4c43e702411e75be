"""Whether targets are met from coefficients that are wrong by a factor of 100, either way.

    python experiments/methods/hundredfold.py outputs/hundredfold

For every method that has a coefficient to steer, on `mlp` and `linear`, with 64 and 1024 units: one run finds the
coefficient that gives the sparsity, two more start at 0.01 and 100 times of it. 60 runs; the same command goes on.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

METHODS = {"l1": "l1", "jumprelu": "l0", "gated": "l1", "hoyer": "hoyer", "kl": "kl"}
"""The term that is steered."""
SETTINGS = ["data.batch_size=256", "trainer.max_epochs=10", "trainer=cpu"]


def target(method: str, units: int) -> list[str]:
    if method == "kl":  # sigmoid codes are never 0
        return ["target=population", f"target.value={0.15 if units == 64 else 0.05}"]
    return ["target=l0", f"target.value={12 if units == 64 else 32}"]


def train(run: Path, method: str, model: str, units: int, coefficient: float) -> Path:
    """Train into ``run``, unless that is done."""
    status = run / "status.json"
    if status.exists() and json.loads(status.read_text())["state"] == "finished":
        return run
    command = [sys.executable, "-m", "sparse_ae.train", *SETTINGS, *target(method, units), f"hydra.run.dir={run}"]
    command += [f"sparsity={method}", f"model={model}", f"model.latent_dim={units}"]
    subprocess.run([*command, f"sparsity.coefficient={coefficient:.6g}"], check=True, stdout=subprocess.DEVNULL)
    return run


def final_coefficient(run: Path, term: str) -> float:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return float(events.Scalars(f"train/{term}_coefficient")[-1].value)


def reached(run: Path) -> str:
    verdict = json.loads((run / "status.json").read_text())["target"]
    return f"{verdict['reached']:.4g}" + ("" if verdict["met"] else " (missed)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print("| method | model | units | wanted | coefficient that gives it | from it / 100 | from it x 100 |")
    print("|---|---|---|---|---|---|---|")
    for method, model, units in itertools.product(METHODS, ("mlp", "linear"), (64, 1024)):
        name = folder / f"{method}-{model}-{units}"
        right = final_coefficient(train(name / "found", method, model, units, 0.01), METHODS[method])
        low = train(name / "from_below", method, model, units, right / 100)
        high = train(name / "from_above", method, model, units, right * 100)
        wanted = target(method, units)
        print(f"| {method} | {model} | {units} | {wanted[0][7:]} {wanted[1][13:]} | {right:.2g} | ", end="")
        print(f"{reached(low)} | {reached(high)} |", flush=True)


if __name__ == "__main__":
    main()
