"""Dead units of a distributed run, whose ranks see different samples."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from sparse_ae.dead import AuxK
from sparse_ae.models import Linear, SparseAutoencoder
from sparse_ae.sparsity import JumpReLU, TopK, TrainingData

UNITS, RANKS = 6, 2


def _ease(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    auxk = AuxK(window_epochs=1, latent_dim=UNITS)
    auxk.setup_(TrainingData(torch.zeros(1, 4), torch.zeros(4), (4,), 100))
    auxk.samples_since_fired[[1, 2 + rank]] = 100  # unit 1 has not fired on either, 2 and 3 on one
    pre = -torch.rand(8, UNITS, generator=torch.Generator().manual_seed(rank))
    jumprelu, topk = JumpReLU(theta=0.5, latent_dim=UNITS), TopK(k=2, latent_dim=UNITS)
    networks = [Linear(4, latent_dim=UNITS) for _ in range(2)]
    for network, method in zip(networks, (jumprelu, topk), strict=True):
        auxk.ease_(SparseAutoencoder(network, method), pre)
    eased = torch.stack([jumprelu.log_theta.detach() - math.log(0.5), networks[1].encoder_bias.detach()])
    torch.save(eased, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_units_that_are_dead_on_every_rank_are_eased_alike(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_ease, args=(str(tmp_path),), nprocs=RANKS)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS))
    assert torch.equal(one, other)
    assert (one != 0).nonzero().tolist() == [[0, 1], [1, 1]]
    assert one[0, 1] < 0 < one[1, 1]
