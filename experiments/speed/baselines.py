"""Two loops to measure `sparse-ae-train` against: the same model and objective, 55,000 images per epoch.

    python experiments/speed/baselines.py plain --root DATA     # or lean

Prints a line of JSON: seconds per epoch, and the time of the first step.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

TRAIN_IMAGES = 55_000


def autoencoder() -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.Sigmoid())
    decoder = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 784), nn.Sigmoid())
    return encoder, decoder


def kl(z: Tensor, rho: float = 0.05) -> Tensor:
    rho_hat = z.mean(dim=0).clamp(1e-7, 1 - 1e-7)
    return (rho * torch.log(rho / rho_hat) + (1 - rho) * torch.log((1 - rho) / (1 - rho_hat))).sum()


def plain(root: str, device: str, batch: int, epochs: int, images: int = TRAIN_IMAGES) -> tuple[list[float], float]:
    """Train with loop A, the first one would write: Dataset, ToTensor, DataLoader, Adam, `.item()` each step."""
    dataset = datasets.MNIST(root, train=True, transform=transforms.ToTensor())
    loader = DataLoader(Subset(dataset, range(images)), batch_size=batch, shuffle=True)
    encoder, decoder = (module.to(device) for module in autoencoder())
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    seconds, first_step = [], 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        total = 0.0
        for image, _label in loader:
            x = image.view(len(image), -1).to(device)
            optimizer.zero_grad()
            z = encoder(x)
            loss = F.mse_loss(decoder(z), x) + 0.01 * kl(z)
            loss.backward()
            optimizer.step()
            total += loss.item()
            first_step = first_step or time.time()
        seconds.append(time.perf_counter() - start)
    return seconds, first_step


def lean(root: str, device: str, batch: int, epochs: int) -> tuple[list[float], float]:
    """Train with loop B, nothing but steps: a resident tensor, an index, fused Adam, no logging, no validation."""
    data = datasets.MNIST(root, train=True).data[:TRAIN_IMAGES]
    images = data.reshape(TRAIN_IMAGES, -1).float().div_(255).to(device)
    encoder, decoder = (module.to(device) for module in autoencoder())
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    seconds, first_step = [], 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        for index in torch.randperm(TRAIN_IMAGES, device=device).split(batch):
            x = images[index]
            z = encoder(x)
            loss = F.mse_loss(decoder(z), x) + 0.01 * kl(z)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            first_step = first_step or time.time()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds, first_step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loop", choices=["plain", "lean"])
    parser.add_argument("--root", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(42)
    loop = {"plain": plain, "lean": lean}[options.loop]
    seconds, first_step = loop(options.root, options.device, options.batch, options.epochs)
    print(json.dumps({"seconds": seconds, "first_step": first_step}))
