"""What a step of five packed models takes, on one thread, against a step of one alone; and what of it no pack can save.

python experiments/speed/packed_step.py              # --mkl: products by MKL on every processor

Both are of the default network with L1, in a process that keeps freed memory as one of a pack does. Products of
matrices are timed within the packed step, and by themselves in the shapes of its largest.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from sparse_ae.models import MLP, SparseAutoencoder
from sparse_ae.packing.stack import Stack
from sparse_ae.sparsity import L1
from sparse_ae.training.objective import Objective
from sparse_ae.training.process import keep_freed_memory, prefer_onednn, tune_process

MODELS, BATCH, ROUNDS, STEPS = 5, 128, 7, 40
PRODUCTS = ("aten::bmm", "aten::baddbmm", "aten::addmm", "aten::mm")
SHAPES = {"forward": (BATCH, 784, MODELS * 256), "weights' gradient": (MODELS * 256, BATCH, 784)}


def objective(coefficient: float) -> Objective:
    torch.manual_seed(0)
    return Objective(SparseAutoencoder(MLP(784), L1(coefficient=coefficient)))


def steps(train_step: Callable[..., object], parameters: list[torch.nn.Parameter]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    batches = [torch.rand(BATCH, 784) for _ in range(STEPS)]

    def take() -> None:
        for step, x in enumerate(batches):
            train_step(optimizer, x, step=step, total_steps=1000)

    return take


def milliseconds(function: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - started) / calls


def product(rows: int, inner: int, columns: int) -> float:
    """Median GFLOP/s."""
    a, b = torch.rand(rows, inner), torch.rand(inner, columns)
    out = a @ b
    times = [milliseconds(lambda: [torch.mm(a, b, out=out) for _ in range(STEPS)], STEPS) for _ in range(ROUNDS)]
    return 2e-6 * rows * inner * columns / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mkl", action="store_true", help="let MKL multiply on every processor")
    options = parser.parse_args()
    tune_process(1, "highest")
    if not options.mkl:
        prefer_onednn()
    keep_freed_memory()
    one, stack = objective(0.01), Stack([objective(0.01 * (member + 1)) for member in range(MODELS)])
    alone = steps(one.train_step_, list(one.parameters()))
    packed = steps(stack.train_step_, list(stack.whole.parameters()))
    alone(), packed()
    times = [(milliseconds(alone, STEPS), milliseconds(packed, STEPS * MODELS)) for _ in range(ROUNDS)]
    of_one, of_pack = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"a step of one model {of_one:.2f} ms, of {MODELS} packed {of_pack:.2f} ms for each: {of_one / of_pack:.2f}")

    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        packed()
    spent = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    products = sum(spent.get(name, 0) for name in PRODUCTS) / sum(spent.values())
    adam = spent.get("aten::_fused_adam_", 0) / sum(spent.values())
    print(
        f"of the packed step, products of matrices {products:.0%}, Adam {adam:.0%}, all else {1 - products - adam:.0%}"
    )
    print(f"if nothing but products took time: {of_one / (of_pack * products):.2f}")
    for name, shape in SHAPES.items():
        print(f"one product by itself, {name}: {product(*shape):.0f} GFLOP/s")
    in_step = 2e-6 * 3 * 2 * BATCH * (784 * 256 + 256 * 128) - 2e-6 * BATCH * 784 * 256  # no gradient for the data
    print(f"products within the step: {in_step / (of_pack * products):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
