"""Gain of skipping zeros, forward and backward: dense and sparse products by the share of codes that are not 0.

    python experiments/speed/sparse_products.py --threads 1

`_DENSE_FROM` in sparse_ae/models/sparse_products.py is chosen from this table.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.benchmark import Timer

from sparse_ae.models import sparse_products
from sparse_ae.models.sparse_products import code_product, linear

BATCH, UNITS, DIM = 256, 1024, 784


def milliseconds(call: Callable[[], object], dense_from: float) -> float:
    sparse_products._DENSE_FROM = dense_from
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return 1e3 * timer.blocked_autorange(min_run_time=0.2).median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    x, downstream, pre = torch.rand(BATCH, DIM), torch.randn(BATCH, DIM), torch.randn(BATCH, UNITS)
    atoms = F.normalize(torch.randn(UNITS, DIM), dim=1).requires_grad_()
    weight, b_pre = atoms.detach().clone().requires_grad_(), torch.zeros(DIM, requires_grad=True)
    print("| active of 1024 | decode, dense ms | sparse ms | encode, dense ms | sparse ms |\n|---|---|---|---|---|")
    for k in (8, 16, 32, 64, 100, 150, 200, 300):
        z = (pre * (pre >= pre.topk(k, dim=1).values[:, -1:])).requires_grad_()
        gradient = z.detach()

        def decode(z: torch.Tensor = z) -> object:
            return torch.autograd.grad(code_product(z, atoms, z != 0), (z, atoms), downstream)

        def encode(gradient: torch.Tensor = gradient) -> object:
            return torch.autograd.grad(linear(x - b_pre, weight), (weight, b_pre), gradient)

        cells = [f"{milliseconds(call, share):.1f}" for call in (decode, encode) for share in (0.0, 2.0)]
        print(f"| {k} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
