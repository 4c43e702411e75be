"""The linear network against scikit-learn and the geometry it promises."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from sparse_ae.dead import DeadUnits
from sparse_ae.models import MLP, Linear, SparseAutoencoder
from sparse_ae.objective import Objective
from sparse_ae.sparsity import L1, NoSparsity


def _linear(**changes: object) -> Linear:
    options = {"input_dim": 12, "latent_dim": 5, "tied": False, "unit_norm": True, "b_pre": "zeros"}
    return Linear(**(options | changes))


def test_with_principal_atoms_it_is_pca() -> None:
    x = np.random.default_rng(0).normal(size=(100, 12)) @ np.diag(range(1, 13))
    pca = PCA(5).fit(x)
    model = SparseAutoencoder(_linear(tied=True), NoSparsity(reduction="mean", latent_dim=5)).double()
    with torch.no_grad():
        model.network.atoms.copy_(torch.from_numpy(pca.components_))
        model.network.b_pre.copy_(torch.from_numpy(pca.mean_))
    codes = model.encode(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(codes, pca.transform(x), atol=1e-9)
    np.testing.assert_allclose(model.decode(codes).detach(), pca.inverse_transform(codes), atol=1e-9)


def test_tied_has_one_matrix_and_untied_starts_from_the_same() -> None:
    torch.manual_seed(0)
    tied, untied = _linear(tied=True), _linear(tied=False)
    assert sum(p.dim() == 2 for p in tied.parameters()) == 1
    assert torch.equal(untied.encoder_weight, untied.atoms)
    assert untied.encoder_weight is not untied.atoms


@pytest.mark.parametrize("tied", [False, True])
def test_unit_norm_keeps_atoms_on_the_sphere_and_gradients_tangent(tied: bool) -> None:
    torch.manual_seed(0)
    model = SparseAutoencoder(
        _linear(tied=tied), L1(coefficient=0.1, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=5)
    )
    network = model.network
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        x = torch.rand(20, 12)
        Objective(model, DeadUnits(window_epochs=1, latent_dim=5))(x, x).loss.backward()
        network.before_step_()
        torch.testing.assert_close((network.atoms.grad * network.atoms).sum(dim=1), torch.zeros(5), atol=1e-6, rtol=0)
        optimizer.step()
        network.after_step_()
        torch.testing.assert_close(network.atom_norms(), torch.ones(5))


def test_without_unit_norm_nothing_is_projected() -> None:
    network = _linear(unit_norm=False)
    network.atoms.grad = torch.ones_like(network.atoms)
    with torch.no_grad():
        network.atoms.mul_(3)
    network.before_step_()
    network.after_step_()
    assert torch.equal(network.atoms.grad, torch.ones_like(network.atoms))
    torch.testing.assert_close(network.atom_norms(), torch.full((5,), 3.0))


def test_b_pre_starts_from_the_data() -> None:
    x = torch.rand(50, 12)
    x[0] += 1000
    zeros, mean, median = (_linear(b_pre=kind) for kind in ("zeros", "mean", "geometric_median"))
    for network in (zeros, mean, median):
        network.fit_to_(x, x.mean(dim=0))
    assert (zeros.b_pre == 0).all()
    torch.testing.assert_close(mean.b_pre.detach(), x.mean(dim=0))
    assert (median.b_pre < 1).all()  # the outlier does not move it


def test_only_a_linear_decoder_has_atom_norms() -> None:
    mlp = MLP(input_dim=12, latent_dim=5, hidden_sizes=[7, 6])
    sparsity = L1(coefficient=0.1, atom_norm=True, reduction="mean", warmup_steps=0, latent_dim=5)
    with pytest.raises(ValueError, match="model=linear"):
        SparseAutoencoder(mlp, sparsity)
    with pytest.raises(TypeError, match="no linear decoder"):
        mlp.atom_norms()


def test_mlp_layers_and_dictionary() -> None:
    mlp = MLP(input_dim=12, latent_dim=5, hidden_sizes=[7, 6])
    shapes = [tuple(p.shape) for p in mlp.parameters() if p.dim() == 2]
    assert shapes == [(7, 12), (6, 7), (5, 6), (6, 5), (7, 6), (12, 7)]
    torch.testing.assert_close(mlp.dictionary[2], mlp.decode(torch.eye(5)[2]))
    assert len(list(MLP(input_dim=12, latent_dim=5, hidden_sizes=[]).parameters())) == 4
