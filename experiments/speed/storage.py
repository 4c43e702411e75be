"""Rows from disk against rows in memory, and against reading the file from end to end: ratios, medians of rounds.

    python experiments/speed/storage.py           (--gb 0.2 --rows 20000 --rounds 1 for a rehearsal)
    python experiments/speed/storage.py --of cache

A file of float32 rows is made in a temporary folder (--folder chooses where), and a cache as a harvest of activations
leaves it: shards of float16 rows in contexts of documents, whole documents in each split. On the cache, an autoencoder
with TopK is trained. Everything takes turns within a round, on the same epochs. Memory is the peak of a process of its
own, which reads one epoch and does nothing else.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from sparse_ae.data import Arrays
from sparse_ae.data.disk import DiskLoader, block_rows, window_rows
from sparse_ae.data.loader import Batch, ResidentLoader
from sparse_ae.data.order import EpochSampler
from sparse_ae.data.rows import Rows, open_rows
from sparse_ae.models import Linear, SparseAutoencoder
from sparse_ae.sparsity import TopK
from sparse_ae.training.objective import Objective

DIM, UNITS = 784, 128
READ_BYTES = 2**20
BATCHES = (256, 4096)
CACHE_DIMS, SHARD_ROWS, WINDOWS = (384, 768), 2**15, 4
ROWS_PER_DOCUMENT, UNITS_PER_VALUE, ACTIVE = 1000, 2, 32


def write_rows(path: Path, n: int) -> None:
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (n, DIM)})
        for start in range(0, n, 10_000):
            generator.random((min(10_000, n - start), DIM), dtype=np.float32).tofile(file)
        file.flush()
        os.fsync(file.fileno())  # pages that are not written cannot be dropped from the cache


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_through(path: Path) -> None:
    """Read a file from end to end into one buffer, as dd does."""
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def from_disk(rows: Rows, batch_size: int, window_gb: float) -> DiskLoader:
    window, block = window_rows(window_gb, DIM * 4), block_rows(DIM * 4)
    sampler = EpochSampler(len(rows), seed=0, shuffle=True, window=window, block=block)
    return DiskLoader(rows, sampler, batch_size)


def nothing(batch: Batch) -> None:
    """Only iterate."""


def training_step() -> Callable[[Batch], None]:
    """One hidden layer and fused Adam."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(DIM, UNITS), nn.ReLU(), nn.Linear(UNITS, DIM))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        F.mse_loss(model(batch.x), batch.target).backward()
        optimizer.step()

    return step


def epoch(loader: Iterable[Batch], step: Callable[[Batch], None]) -> Callable[[], None]:
    def run() -> None:
        for batch in loader:
            step(batch)

    return run


def seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compared(
    title: str, calls: dict[str, Callable[[], None]], gb: float, wanted: float, rounds: int, before: Callable[[], None]
) -> None:
    """Print the speed of two calls that take turns, and the ratio of the second to the first."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            before()
            times[name].append(seconds(call))
    reference, ours = times.values()
    ratio = statistics.median(a / b for a, b in zip(reference, ours, strict=True))
    speeds = [f"{gb / statistics.median(each):.2f}" for each in (reference, ours)]
    print(f"| {title} | {' | '.join(speeds)} | {ratio:.2f} | at least {wanted} |", flush=True)


def peak_mb(path: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--peak-of", str(path), "--window-gb", str(options.window_gb)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(path: Path, options: argparse.Namespace) -> None:
    n = int(options.gb * 1e9) // (DIM * 4)
    write_rows(path, n)
    rows = open_rows(path)
    print(f"{n} rows, {options.gb} GB, {options.window_gb} GB for windows, {torch.get_num_threads()} threads\n")
    print("| | reference, GB/s | from disk, GB/s | ratio | wanted |\n|---|---|---|---|---|")
    for batch_size in BATCHES:
        call = epoch(from_disk(rows, batch_size, options.window_gb), nothing)
        calls = {"dd": lambda: read_through(path), "disk": call}
        title = f"cold cache, batch {batch_size}; against reading from end to end"
        compared(title, calls, options.gb, 0.7, options.rounds, lambda: drop_from_cache(path))
    print(f"peak memory: {peak_mb(path, options):.0f} MB  (wanted: under 1500 MB)", file=sys.stderr)
    memory = rows.read(0, n)
    for batch_size in BATCHES:
        disk = from_disk(rows, batch_size, options.window_gb)
        resident = ResidentLoader(memory, disk.sampler, batch_size)
        for name, make in (("only iterating", lambda: nothing), ("training", training_step)):
            calls = {"memory": epoch(resident, make()), "disk": epoch(disk, make())}
            title = f"warm cache, batch {batch_size}, {name}; against memory"
            compared(title, calls, options.gb, 0.8, options.rounds, lambda: None)


def write_cache(folder: Path, n: int, dim: int) -> None:
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number, start in enumerate(range(0, n, SHARD_ROWS)):
        place = torch.arange(start, min(start + SHARD_ROWS, n), dtype=torch.int32)
        rows = torch.randn(len(place), dim, generator=generator).half()
        save_file({"rows": rows, "document": place // ROWS_PER_DOCUMENT}, folder / f"{number}.safetensors")


def topk_step(dim: int) -> Callable[[Batch], None]:
    """``model=linear sparsity=topk`` with ``optimizer=adam``."""
    torch.manual_seed(0)
    units = UNITS_PER_VALUE * dim
    model = SparseAutoencoder(Linear(input_dim=dim, latent_dim=units), TopK(k=ACTIVE, latent_dim=units))
    objective = Objective(model)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3, fused=True)

    def step(batch: Batch) -> None:
        objective.train_step_(optimizer, batch.x, batch.target, step=0, total_steps=1)

    return step


def measure_cache(folder: Path, dim: int, options: argparse.Namespace) -> None:
    write_cache(folder, options.rows, dim)
    gb = options.rows * dim * 2 / 1e9
    for batch_size in BATCHES:
        loaders = {}
        for storage in ("device", "disk"):
            data = Arrays(
                path=str(folder),
                key="rows",
                split_by="document",
                storage=storage,
                batch_size=batch_size,
                window_gb=4 * options.rows * dim * 2 / 2**30 / WINDOWS,
            )
            loaders[storage] = data.train_dataloader()
        for name, make in (("only iterating", lambda: nothing), ("linear, topk", lambda: topk_step(dim))):
            calls = {storage: epoch(loader, make()) for storage, loader in loaders.items()}
            title = f"cache, D = {dim}, batch {batch_size}, {name}; against memory"
            compared(title, calls, gb, 0.8, options.rounds, lambda: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=["file", "cache"], help="only this of the two")
    parser.add_argument("--gb", type=float, default=4.0, help="size of the file")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the cache")
    parser.add_argument("--window-gb", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="folder on the disk to be measured")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        epoch(from_disk(open_rows(options.peak_of), BATCHES[0], options.window_gb), nothing)()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.of != "cache":
            measure(Path(folder) / "rows.npy", options)
        else:
            print("| | reference, GB/s | from disk, GB/s | ratio | wanted |\n|---|---|---|---|---|")
        if options.of != "file":
            for dim in CACHE_DIMS:
                measure_cache(Path(folder) / str(dim), dim, options)


if __name__ == "__main__":
    main()
