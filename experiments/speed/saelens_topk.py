"""TopK of SAELens on MNIST or on random rows in memory, with its own trainer. Prints one JSON line; run by `peers.py`
and by `experiments.speed.gpu`.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="?", help="train-images-idx3-ubyte; default: random rows")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=784)
    parser.add_argument("--units", type=int, default=1024)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--sparse", action="store_true", help="its use_sparse_activations")
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(options.rows, options.dim)
    if options.images is not None:
        raw = torch.frombuffer(bytearray(options.images.read_bytes()[16:]), dtype=torch.uint8)
        images = raw.reshape(60_000, 784).float().div_(255)
    images = images.to(options.device)
    ends: list[float] = []

    def batches() -> Iterator[torch.Tensor]:
        while True:
            if options.device != "cpu":
                torch.accelerator.synchronize()
            ends.append(time.perf_counter())
            yield from images[torch.randperm(len(images), device=images.device)].split(options.batch)

    configuration = TopKTrainingSAEConfig(
        d_in=images.shape[1],
        d_sae=options.units,
        k=options.k,
        use_sparse_activations=options.sparse,
        device=options.device,
    )
    samples = options.epochs * len(images)
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=samples + 1,  # so that the end of the last epoch is recorded
            device=options.device,
            train_batch_size_samples=options.batch,
            lr=1e-3,
            lr_end=1e-3,
        ),
        sae=TopKTrainingSAE(configuration),
        data_provider=batches(),
    )
    trainer.fit()
    print(json.dumps({"seconds": [b - a for a, b in itertools.pairwise(ends)]}))


if __name__ == "__main__":
    main()
