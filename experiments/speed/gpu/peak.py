"""Share of the device's peak that the products of training reach; the peak is that of a large product, measured."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from experiments.speed.clock import seconds, table
from experiments.speed.gpu.sizes import OF

PRECISIONS = {"float32": "highest", "TF32": "high", "bfloat16": "highest"}
"""Precisions, with torch's setting for float32 products."""


def report(device: str) -> None:
    """Print the table. A CPU has no TF32 of its own."""
    square, header = OF[device].square, [""]
    for name in PRECISIONS:
        header += [f"{name}, GFLOP/s", "of peak"]
    table(f"Products; the peak is that of two matrices of {square} x {square}", header, rows(device))


def rows(device: str) -> Iterator[list[str]]:
    peaks: dict[str, float] = {}
    for name, (a, b) in shapes(device).items():
        row = [name]
        for precision in PRECISIONS:
            found = gigaflops(a, b, device, precision)
            peak = peaks.setdefault(precision, found)
            row += [f"{found:,.0f}", f"{found / peak:.2f}"]
        yield row


def shapes(device: str) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of two factors by name, the peak first."""
    sizes = OF[device]
    n, (units, dim, batch, _) = sizes.square, sizes.topk
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {"peak": ((n, n), (n, n))}
    found["first layer, one run"] = (128, 784), (784, 256)
    for members in sizes.stacked[1:]:
        found[f"first layer, {members} runs, shared batch"] = (128, 784), (784, 256 * members)
        found[f"last layer, {members} runs"] = (members, 128, 256), (members, 256, 784)
    found[f"encode, {units} units"] = (batch, dim), (dim, units)
    found[f"decode, {units} units"] = (batch, units), (units, dim)
    found[f"gradient of atoms, {units} units"] = (units, batch), (batch, dim)
    return found


def gigaflops(a: tuple[int, ...], b: tuple[int, ...], device: str, precision: str) -> float:
    """Speed of the product of matrices of these shapes."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(shape, device=device, dtype=dtype) for shape in (a, b))
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    (time,) = seconds(_product(left, right))
    torch.set_float32_matmul_precision("highest")
    return 2 * left.numel() * b[-1] / time / 1e9


def _product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    return lambda: a @ b
