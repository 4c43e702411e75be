"""Memory of a model, told before it is built."""

import torch

from sparse_ae.jobs.memory import check_memory
from tests.helpers import plain_config


def test_a_model_that_fits_is_not_touched_and_draws_nothing() -> None:
    config = plain_config("model=mlp_encoder", "sparsity=wta")
    before = torch.get_rng_state()
    check_memory(config["model"], config["sparsity"], input_dim=784)
    assert torch.equal(torch.get_rng_state(), before)
