"""Each method's activation and loss terms, by hand."""

import pytest
import torch

from sparse_ae.build import ConfigError, build
from sparse_ae.functional import bernoulli_kl
from sparse_ae.models import Linear
from sparse_ae.sparsity import KL, L1, Forward, NoSparsity

PRE = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])


def _forward(z: torch.Tensor) -> Forward:
    x = torch.zeros(2, 3)
    return Forward(x, PRE, z, x)


def _network() -> Linear:
    return Linear(input_dim=3, latent_dim=2, tied=False, unit_norm=False, b_pre="zeros")


def test_none_is_dense() -> None:
    method = NoSparsity(reduction="mean")
    assert torch.equal(method.activate(PRE), PRE)
    assert method.losses(_forward(PRE), _network()) == {} == method.coefficients


def test_l1() -> None:
    method = L1(coefficient=0.5, atom_norm=False, reduction="mean", warmup_steps=0)
    z = method.activate(PRE)
    assert z.tolist() == [[0, 2], [3, 0]]
    assert method.losses(_forward(z), _network())["l1"].item() == 5 / 4
    assert method.coefficients["l1"].item() == 0.5


def test_l1_with_atom_norms_cannot_be_cheated_by_large_atoms() -> None:
    method = L1(coefficient=0.5, atom_norm=True, reduction="sum", warmup_steps=0)
    network = _network()
    z = method.activate(PRE)
    before = method.losses(_forward(z), network)["l1"]
    with torch.no_grad():
        network.atoms.mul_(10)
    torch.testing.assert_close(method.losses(_forward(z / 10), network)["l1"], before)
    assert before.item() == pytest.approx(5 / 2)


def test_kl() -> None:
    method = KL(coefficient=0.5, rho=0.25, reduction="mean", warmup_steps=0)
    z = method.activate(PRE)
    torch.testing.assert_close(z, 1 / (1 + torch.exp(-PRE)))
    expected = bernoulli_kl(torch.tensor(0.25), z.mean(dim=0)).sum()
    torch.testing.assert_close(method.losses(_forward(z), _network())["kl"], expected)


def test_coefficients_and_rho_are_buffers_that_a_checkpoint_restores() -> None:
    method = KL(coefficient=0.5, rho=0.25, reduction="mean", warmup_steps=0)
    method.coefficients["kl"].fill_(7)
    other = KL(coefficient=0.1, rho=0.5, reduction="mean", warmup_steps=0)
    other.load_state_dict(method.state_dict())
    assert other.coefficients["kl"].item() == 7
    assert other.get_buffer("rho").item() == 0.25
    assert list(method.parameters()) == []


def test_kl_with_another_activation_cannot_be_expressed() -> None:
    spec = {
        "_target_": "sparse_ae.sparsity.KL",
        "coefficient": 1,
        "rho": 0.1,
        "reduction": "mean",
        "warmup_steps": 0,
    }
    with pytest.raises(ConfigError, match=r"sparsity\.activation: no such key"):
        build(spec | {"activation": "relu"}, "sparsity")
