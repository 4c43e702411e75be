"""Gain of skipping zeros, forward and backward: dense and sparse products by the number of codes that are not 0.

    python -m experiments.speed.sparse_products --threads 1

`_DENSE_FROM` in sparse_ae/models/sparse_products.py is chosen from the columns dense and sparse. The others know the
places of the codes. On a GPU (experiments.speed.gpu) no zeros are searched for, and Triton takes part.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import torch
import torch.nn.functional as F

from experiments.speed import gathered
from experiments.speed.clock import seconds, table
from sparse_ae.models import sparse_products
from sparse_ae.models.sparse_products import code_product, linear

BATCH, UNITS, DIM = 256, 1024, 784
ACTIVE = (8, 16, 32, 64, 100, 150, 200, 300)
Call = Callable[[], object]


def report(device: str, batch: int, dim: int, units: Sequence[int], active: Sequence[int]) -> None:
    """Print the table: milliseconds of each way on ``device``."""
    columns = [f"{what}, {way}" for what in ("decode", "encode") for way in ("dense", "sparse", "gathered", "Triton")]

    def rows() -> Iterator[list[str]]:
        for n in units:
            for k in active:
                names, products = zip(*calls(device, batch, dim, n, k), strict=True)
                found = {name: f"{1e3 * time:.2f}" for name, time in zip(names, seconds(*products), strict=True)}
                yield [str(n), str(k), *(found.get(column, "") for column in columns)]

    title = f"Products of codes, forward and backward, ms: batch {batch}, {dim} values"
    table(title, ["units", "not 0", *columns], rows())


def calls(device: str, batch: int, dim: int, n: int, k: int) -> Iterator[tuple[str, Call]]:
    """Products by name. All of one kind compute the same, but for the search for zeros in ``sparse``."""
    torch.manual_seed(0)
    x, downstream = torch.rand(2, batch, dim, device=device)
    atoms = F.normalize(torch.randn(n, dim, device=device), dim=1).requires_grad_()
    weight, b_pre = atoms.detach().clone().requires_grad_(), torch.zeros(dim, device=device, requires_grad=True)
    values, units = gathered.codes(batch, n, k, device)
    z, values = gathered.dense(values, units, n).requires_grad_(), values.requires_grad_()
    gradient = z.detach()

    def decode() -> object:
        return torch.autograd.grad(code_product(z, atoms, z != 0), (z, atoms), downstream)

    def encode() -> object:
        return torch.autograd.grad(linear(x - b_pre, weight), (weight, b_pre), gradient)

    for way, share in (("dense", 0.0), ("sparse", 2.0)):
        if way == "dense" or device == "cpu":
            yield f"decode, {way}", _dense_from(share, decode)
            yield f"encode, {way}", _dense_from(share, encode)
    for way, module in (("gathered", gathered), ("Triton", kernels(device))):
        if module is not None:
            yield (
                f"decode, {way}",
                lambda own=module: torch.autograd.grad(own.decode(values, units, atoms), (values, atoms), downstream),
            )
            yield f"encode, {way}", lambda own=module: _encode(own, x - b_pre, weight, values.detach(), units)


def _encode(
    own: ModuleType, x: torch.Tensor, weight: torch.Tensor, values: torch.Tensor, units: torch.Tensor
) -> object:
    with torch.no_grad():
        pre = F.linear(x, weight)
        of_x = own.decode(values, units, weight)  # whose sum is the gradient of b_pre
        return pre, own.outer(values, units, x, len(weight)), of_x.sum(dim=0)


def kernels(device: str) -> ModuleType | None:
    """The products in Triton, if it is there and compiles for ``device``."""
    if device != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("experiments.speed.gpu.kernels")


def _dense_from(share: float, call: Call) -> Call:
    own = sparse_products._DENSE_FROM

    def forced() -> object:
        sparse_products._DENSE_FROM = share
        result = call()
        sparse_products._DENSE_FROM = own
        return result

    return forced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    report("cpu", BATCH, DIM, [UNITS], ACTIVE)


if __name__ == "__main__":
    main()
