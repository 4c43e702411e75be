"""TopK with many units: ours, a plain loop and SAELens'."""

import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.speed.clock import ROUNDS, synchronize, table
from experiments.speed.gpu.sizes import OF
from sparse_ae.dead import AuxK
from sparse_ae.models import Linear, SparseAutoencoder
from sparse_ae.sparsity import TopK, TrainingData
from sparse_ae.training.objective import Objective
from sparse_ae.training.schedulers import adam, make_optimizer

STEPS = 20
"""Steps of a round."""
SAELENS = Path(__file__).parent.parent / "saelens_topk.py"


def report(device: str, peer: str | None) -> None:
    """Print the table. ``peer`` is an interpreter that has SAELens; None for this one, if it does."""
    units, dim, batch, k = OF[device].topk
    if peer is None and importlib.util.find_spec("sae_lens"):
        peer = sys.executable

    def rows() -> Iterator[tuple[str, ...]]:
        torch.manual_seed(0)
        x = torch.randn(STEPS * batch, dim)
        ways: dict[str, Callable[[], float]] = {
            "plain loop": plain(x, device),
            "ours": ours(x.to(device), batch, device),
        }
        if peer is not None:
            ways["SAELens"] = lambda: saelens(peer, device)
        rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
        times = {name: statistics.median(taken[name] for taken in rounds) for name in ways}
        for name, taken in times.items():
            yield name, f"{1e3 * taken:.2f}", f"{batch / taken:,.0f}", f"{times['plain loop'] / taken:.2f}"

    header = ("", "ms per step", "rows per second", "to the plain loop")
    table(
        f"TopK: {units} units of {dim} inputs, batch {batch}, k = {k}, with AuxK but for the plain loop", header, rows()
    )
    if peer is None:
        print("\nSAELens is not installed (--peer names an interpreter that has it)")


def ours(x: Tensor, batch: int, device: str) -> Callable[[], float]:
    """Seconds per step of our objective, on rows on the device."""
    units, dim, _, k = OF[device].topk
    torch.manual_seed(0)
    model = SparseAutoencoder(Linear(dim, latent_dim=units), TopK(k=k, latent_dim=units))
    objective = Objective(model, AuxK(latent_dim=units))
    sample = x[:1000].cpu()
    objective.setup_(TrainingData(sample, sample.mean(dim=0), (dim,), len(x)))
    objective.to(device)
    optimizer = make_optimizer(adam, model)
    taken = 0

    def steps() -> None:
        nonlocal taken
        for index in torch.randperm(len(x), device=device).split(batch):
            objective.train_step_(optimizer, x[index], step=taken, total_steps=1000)
            taken += 1

    return lambda: _per_step(steps, device)


def plain(x: Tensor, device: str) -> Callable[[], float]:
    """Seconds per step of the loop one writes first, on rows in host memory."""
    units, dim, batch, k = OF[device].topk
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(dim, units).to(device), nn.Linear(units, dim).to(device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    loader = DataLoader(TensorDataset(x), batch_size=batch, shuffle=True)

    def steps() -> None:
        for (rows,) in loader:
            rows = rows.to(device)
            optimizer.zero_grad()
            values, places = encoder(rows - decoder.bias).topk(k)
            z = torch.zeros(len(rows), units, device=device).scatter(1, places, values.relu())
            loss = F.mse_loss(decoder(z), rows)
            loss.backward()
            optimizer.step()
            loss.item()

    return lambda: _per_step(steps, device)


def saelens(python: str, device: str) -> float:
    """Seconds per step of SAELens' own trainer, in a process of its own."""
    units, dim, batch, k = OF[device].topk
    options = {"dim": dim, "units": units, "k": k, "batch": batch, "rows": STEPS * batch, "device": device}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([python, str(SAELENS), *words], check=True, capture_output=True, text=True)
    epochs = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
    return float(statistics.median(epochs[1:])) / STEPS


def _per_step(steps: Callable[[], None], device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    steps()
    synchronize(device)
    return (time.perf_counter() - start) / STEPS
