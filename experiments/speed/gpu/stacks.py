"""Steps of several models at once: our stack, ``torch.func.vmap`` over our objective, and one model after the other."""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from experiments.speed import baselines
from experiments.speed.clock import seconds, table
from experiments.speed.gpu.sizes import OF
from sparse_ae.models import MLP, SparseAutoencoder
from sparse_ae.packing.stack import Stack
from sparse_ae.sparsity import KL
from sparse_ae.training.objective import Objective

Step = Callable[[], object]


def report(device: str) -> None:
    """Print the table."""

    def rows() -> Iterator[tuple[str, ...]]:
        x = torch.rand(128, 784, device=device)
        for n in OF[device].stacked:
            models = objectives(n, device)
            times = seconds(stacked(models, x)[0], mapped(models, x)[0], one_by_one(n, x))
            ours, theirs, plain = (1e3 * time for time in times)
            yield str(n), f"{ours:.2f}", f"{theirs:.2f}", f"{plain:.2f}", f"{theirs / ours:.2f}", f"{plain / ours:.2f}"

    header = ("models", "our stack, ms", "vmap, ms", "plain, ms", "vmap / ours", "plain / ours")
    table("A step of several models: forward, backward and Adam on one batch of 128", header, rows())


def objectives(n: int, device: str) -> list[Objective]:
    """Default objectives of different weights."""
    made = []
    for seed in range(n):
        torch.manual_seed(seed)
        made.append(Objective(SparseAutoencoder(MLP(784), KL(coefficient=0.01 * (seed + 1)))).to(device))
    return made


def stacked(models: list[Objective], x: Tensor) -> tuple[Step, dict[str, Tensor]]:
    """A step of hand-written batched products, and the parameters ``(R, ...)`` that it changes."""
    whole = Stack(copy.deepcopy(models)).whole
    optimizer = torch.optim.Adam(whole.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        loss = whole(x, x).loss.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, dict(whole.named_parameters())


def mapped(models: list[Objective], x: Tensor) -> tuple[Step, dict[str, Tensor]]:
    """The same step by ``vmap`` of the gradient of one objective."""
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3, fused=True)
    one = copy.deepcopy(models[0])

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        value: Tensor = functional_call(one, (parameters, buffers), (x, x)).loss
        return value

    gradients = vmap(grad(loss))

    def step() -> None:
        found = gradients({name: p.detach() for name, p in parameters.items()}, buffers)
        for name, parameter in parameters.items():
            parameter.grad = found[name]
        optimizer.step()

    return step, parameters


def one_by_one(n: int, x: Tensor) -> Step:
    """A step of each of ``n`` models by the plain loop, its data resident."""
    models = [[part.to(x.device) for part in baselines.autoencoder()] for _ in range(n)]
    optimizers = [torch.optim.Adam([p for part in parts for p in part.parameters()], lr=1e-3) for parts in models]

    def step() -> None:
        for (encoder, decoder), optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            z = encoder(x)
            loss = F.mse_loss(decoder(z), x) + 0.01 * baselines.kl(z)
            loss.backward()
            optimizer.step()
            loss.item()

    return step
