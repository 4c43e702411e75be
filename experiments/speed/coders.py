"""Batched OMP against SPAMS and scikit-learn on 10,000 MNIST images, 1024 atoms, k = 32; FVU of K-SVD over time.

    python -m venv peers && peers/bin/pip install spams-bin
    python experiments/speed/coders.py --python peers/bin/python --ksvd

SPAMS needs an environment of its own, as it is not a dependency. It chooses atoms by the error they leave, as ours does
with selection="error"; scikit-learn chooses by correlation. The atoms are training images. Medians of three rounds, all
programs in turn. scikit-learn takes a minute, and is timed on every tenth image. K-SVD: 60,000 images, 10 atoms each.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import sparse_encode
from torch import Tensor

from sparse_ae.coders import KSVD, OMP, DataAtoms
from sparse_ae.coders.ksvd import KSVDState
from sparse_ae.data.embedded import unpack_mnist

RUNS = 3
N_ATOMS, K, K_LEARNT = 1024, 32, 10

SPAMS = """
import json, sys, time
import numpy as np, spams
x, atoms = (np.asfortranarray(np.load(f"{sys.argv[1]}/{name}.npy").T) for name in ("x", "atoms"))
started = time.perf_counter()
z = spams.omp(x, atoms, L=int(sys.argv[2]), eps=0.0, numThreads=int(sys.argv[3]))
print(json.dumps({"seconds": time.perf_counter() - started}))
np.save(f"{sys.argv[1]}/z.npy", z.toarray().T)
"""


def images() -> tuple[Tensor, Tensor]:
    """Read the training and test images of MNIST, float32 in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        unpack_mnist(Path(folder))
        train, test = (
            np.frombuffer((Path(folder) / f"{name}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
            for name in ("train", "t10k")
        )
    return tuple(torch.from_numpy(file.reshape(-1, 784).astype(np.float32) / 255) for file in (train, test))  # type: ignore[return-value]


def timed(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def agreement(z: Tensor, theirs: Tensor) -> str:
    same = ((z != 0) == (theirs != 0)).all(dim=1)
    return (
        f"same atoms in {same.double().mean():.2%} of samples, codes there within {(z - theirs)[same].abs().max():.1e}"
    )


def pursuits(x: Tensor, atoms: Tensor, python: str | None) -> None:
    rounds: dict[str, list[float]] = {}
    codes: dict[str, Tensor] = {}

    def note(name: str, seconds: float, z: Tensor) -> None:
        rounds.setdefault(name, []).append(seconds)
        codes[name] = z

    some = x[::10]
    for _ in range(RUNS):
        note("ours", *timed(lambda: OMP(atoms, K).encode(x)))
        note("ours, by error", *timed(lambda: OMP(atoms, K, selection="error").encode(x)))
        seconds, z = timed(
            lambda: torch.from_numpy(
                sparse_encode(some.numpy(), atoms.numpy(), algorithm="omp", n_nonzero_coefs=K, check_input=False)
            )
        )
        note("scikit-learn", seconds * len(x) / len(some), z)
        if python:
            with tempfile.TemporaryDirectory() as folder:
                np.save(f"{folder}/x.npy", x.numpy())
                np.save(f"{folder}/atoms.npy", atoms.numpy())
                command = [python, "-c", SPAMS, folder, str(K), str(torch.get_num_threads())]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                seconds = json.loads(output.strip().splitlines()[-1])["seconds"]
                note("SPAMS", seconds, torch.from_numpy(np.load(f"{folder}/z.npy")))
    for name, seconds in rounds.items():
        print(f"{name:16s} {statistics.median(seconds):8.2f} s   {[round(s, 2) for s in seconds]}", flush=True)

    def ratio(theirs: str, own: str) -> float:
        return statistics.median(a / b for a, b in zip(rounds[theirs], rounds[own], strict=True))

    print(f"scikit-learn / ours: {ratio('scikit-learn', 'ours'):.1f}  (wanted: at least 10)")
    print("  " + agreement(codes["ours"][::10], codes["scikit-learn"]))
    if python:
        print(
            f"SPAMS / ours: {ratio('SPAMS', 'ours'):.2f}, by error {ratio('SPAMS', 'ours, by error'):.2f}  (at least 1)"
        )
        print("  " + agreement(codes["ours, by error"], codes["SPAMS"]))


def ksvd(train: Tensor, test: Tensor, epochs: int, batch_size: int | None) -> None:
    total = float((test - train.mean(dim=0)).square().sum(dim=1).sum(dtype=torch.float64))
    spent, started = 0.0, time.perf_counter()

    def show(state: KSVDState) -> None:
        nonlocal spent, started
        spent += time.perf_counter() - started  # without the time spent on test images
        if state.epoch % 5 == 0 or state.epoch == epochs:
            coder = OMP(state.atoms, k=K_LEARNT, mean=state.mean, selection="error")
            fvu = float((test - coder.decode(coder.encode(test))).square().sum(dim=1).sum(dtype=torch.float64)) / total
            print(f"K-SVD, epoch {state.epoch}: {spent:.0f} s, held-out FVU {fvu:.4f}", flush=True)
        started = time.perf_counter()

    KSVD(N_ATOMS, K_LEARNT, epochs=epochs, batch_size=batch_size, selection="error", seed=0).fit(train, callback=show)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="an interpreter that has spams-bin")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ksvd", action="store_true", help="fit K-SVD too")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train, test = images()
    start = DataAtoms(N_ATOMS, K, seed=0).fit(train)
    pursuits(test - start.mean, start.dictionary, options.python)
    if options.ksvd:
        ksvd(train, test, options.epochs, options.batch_size)


if __name__ == "__main__":
    main()
