"""Benchmarks of a GPU: every table against the plain loop on the same card in the same call, medians of rounds.

make gpu          (or: python -m experiments.speed.gpu; with --device cpu a rehearsal with small sizes)
"""

import argparse
import os
import sys
import time

import torch

from experiments.speed import sparse_products
from experiments.speed.gpu import peak, stacks, topk, training
from experiments.speed.gpu.sizes import OF


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--peer", help="an interpreter that has SAELens; default: this one, if it does")
    parser.add_argument("--only", nargs="+", choices=["training", "stacks", "topk", "peak", "products"])
    options = parser.parse_args()
    device, sizes = options.device, OF[options.device]
    tables = {
        "training": lambda: training.report(device),
        "stacks": lambda: stacks.report(device),
        "topk": lambda: topk.report(device, options.peer),
        "peak": lambda: peak.report(device),
        "products": lambda: sparse_products.report(device, sizes.topk[2], sizes.topk[1], sizes.units, sizes.active),
    }
    card = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    python = ".".join(map(str, sys.version_info[:2]))
    print(f"{card}; {os.cpu_count()} cores, Python {python}, torch {torch.__version__}", flush=True)
    for name in options.only or tables:
        started = time.perf_counter()
        tables[name]()
        print(f"\n({name}: {time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
