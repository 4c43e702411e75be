"""Methods that lab books compare with and the package does not have."""

import pytest
import torch

from experiments.methods.others import AnnealedLp, Archetypal, GroupMax, PlainPursuit
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.models import SparseAutoencoder
from sparse_ae.sparsity import Forward, NoSparsity, TopK, TrainingData
from sparse_ae.training.objective import Objective
from tests.helpers import ROOT, plain_config


def test_a_group_has_its_largest_unit() -> None:
    pre = torch.tensor([[1.0, 3.0, -1.0, -2.0], [0.5, 0.1, 2.0, 1.0]])
    assert GroupMax(k=2, latent_dim=4).activate(pre).tolist() == [[0, 3, 0, 0], [0.5, 0, 2, 0]]
    with pytest.raises(ConfigError, match="k=3: does not divide the units"):
        GroupMax(k=3, latent_dim=4)


def test_p_falls_after_its_start_and_the_term_is_the_sum_of_powers() -> None:
    method = AnnealedLp(p_end=0.2, p_start=0.25, latent_dim=2, reduction="sum")
    for step, p in ((0, 1.0), (25, 1.0), (100, 0.2)):
        method.on_step_start_(step, 100)
        assert float(method.p) == pytest.approx(p)
    z = torch.tensor([[0.0, 2.0], [0.5, 0.0]])
    term = method.losses(Forward(z, z, z, z, z), PlainPursuit(2, latent_dim=2, k=1))["lp"]
    assert float(term) == pytest.approx((2.01**0.2 + 0.51**0.2 - 2 * 0.01**0.2) / 2)


def test_plain_pursuit_takes_inner_products_one_by_one() -> None:
    torch.manual_seed(0)
    network, x = PlainPursuit(12, latent_dim=30, k=4), torch.randn(6, 12)
    expected, atoms = torch.zeros(6, 30), network.atoms.detach()
    for sample, code in zip(x, expected, strict=True):
        residual = sample
        for _ in range(4):
            unit = int((atoms @ residual).argmax())
            value = float(atoms[unit] @ residual)
            code[unit] += value
            residual = residual - value * atoms[unit]
    torch.testing.assert_close(network.encode(x), expected)
    objective = Objective(SparseAutoencoder(network, NoSparsity(latent_dim=30)))
    objective(x, x).loss.backward()
    assert network.atoms.grad is not None


def test_archetypal_atoms_start_as_centres_and_stay_near_their_combinations() -> None:
    torch.manual_seed(0)
    clusters = 10 * torch.eye(6)
    sample = clusters.repeat(50, 1) + 0.01 * torch.randn(300, 6)
    network = Archetypal(6, latent_dim=4, points=6, delta=0.5)
    network.setup_(TrainingData(sample, sample.mean(dim=0), (6,), 300))
    centres = network.points + network.b_pre
    assert torch.cdist(clusters, centres).min(dim=1).values.max() < 0.1
    torch.testing.assert_close(network.dictionary, network.log_scale.exp() * network.points[:4])
    assert network.atom_norms().mean().item() == pytest.approx(1)
    torch.testing.assert_close(network.encoder_weight, network.dictionary)

    objective = Objective(SparseAutoencoder(network, TopK(k=2, latent_dim=4)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        objective(sample, sample).loss.backward()
        optimizer.step()
        objective.on_step_end_()
    assert bool((network.mix >= 0).all())
    torch.testing.assert_close(network.mix.sum(dim=1), torch.ones(4))
    norms = network.relaxation.norm(dim=1)
    assert 0 < norms.max().item() <= 0.5001
    assert not torch.equal(network.mix, torch.eye(4, 6))
    assert network.replace_units_(torch.tensor([1, 3]), sample[:2], 0.5)[0] is network.mix
    nearest = (centres - sample[0]).norm(dim=1).argmin()
    torch.testing.assert_close(network.mix[1], torch.eye(6)[nearest])
    z = torch.rand(3, 4)
    torch.testing.assert_close(network.combine(z[:, :2], torch.tensor([0, 2])), z[:, :2] @ network.dictionary[[0, 2]])
    with pytest.raises(ConfigError, match=r"^points=6: more than there are samples \(expected up to 5\)$"):
        network.setup_(TrainingData(sample[:5], sample.mean(dim=0), (6,), 5))
    with pytest.raises(
        ConfigError, match=r"^points=3: each atom starts as a centre of its own \(expected 4 or more\)$"
    ):
        Archetypal(6, latent_dim=4, points=3)
    atoms = network.log_scale.exp() * (network.mix @ network.points + network.relaxation)
    torch.testing.assert_close(network.decode(z), z @ atoms + network.b_pre)


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("sparsity=group_max", GroupMax),
        ("sparsity=annealed_lp", AnnealedLp),
        ("model=plain_pursuit", PlainPursuit),
        ("model=archetypal", Archetypal),
    ],
)
def test_options(option: str, kind: type) -> None:
    folder = f"hydra.searchpath=[file://{ROOT}/experiments/methods/conf]"
    group = option.partition("=")[0]
    config = plain_config(folder, option, "sparsity=none" if group == "model" else "model=linear")
    assert type(build(config[group], group, **({"input_dim": 8} if group == "model" else {"latent_dim": 128}))) is kind
