"""Dead units of a distributed run, whose ranks see different samples."""

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from sparse_ae.dead import AuxK
from sparse_ae.sparsity import JumpReLU, TrainingData

UNITS, RANKS = 6, 2


def _ease(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    auxk, method = AuxK(window_epochs=1, latent_dim=UNITS), JumpReLU(theta=0.5, latent_dim=UNITS)
    auxk.setup_(TrainingData(torch.zeros(1, 4), torch.zeros(4), (4,), 100))
    auxk.samples_since_fired[[1, 2 + rank]] = 100  # unit 1 has not fired on either, 2 and 3 on one
    auxk.ease_(method)
    torch.save(method.log_theta.detach(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_thresholds_of_units_fall_that_are_dead_on_every_rank(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_ease, args=(str(tmp_path),), nprocs=RANKS)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS))
    assert torch.equal(one, other)
    assert (one < one.max()).nonzero().squeeze(1).tolist() == [1]
