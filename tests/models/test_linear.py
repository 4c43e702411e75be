"""The linear network against scikit-learn and the geometry it promises."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from sparse_ae.config.errors import ConfigError
from sparse_ae.dead import DeadUnits
from sparse_ae.jobs.autoencoder import AutoencoderJob
from sparse_ae.models import LISTA, MLP, Linear, SparseAutoencoder
from sparse_ae.run.directory import Run
from sparse_ae.sparsity import L1, NoSparsity, TopK, TrainingData
from sparse_ae.training.objective import Objective
from tests.helpers import plain_config

OPTIONS: dict[str, Any] = {
    "input_dim": 12,
    "latent_dim": 5,
    "tied": False,
    "unit_norm": True,
    "b_pre": "zeros",
    "start": "random",
    "encoder_scale": 1.0,
    "atom_rate": 1.0,
}


def _linear(**changes: object) -> Linear:
    return Linear(**(OPTIONS | changes))


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
        network.on_before_optimizer_step_()
        torch.testing.assert_close((network.atoms.grad * network.atoms).sum(dim=1), torch.zeros(5), atol=1e-6, rtol=0)
        optimizer.step()
        network.on_step_end_()
        torch.testing.assert_close(network.atom_norms(), torch.ones(5))


def test_without_unit_norm_nothing_is_projected() -> None:
    network = _linear(unit_norm=False)
    network.atoms.grad = torch.ones_like(network.atoms)
    with torch.no_grad():
        network.atoms.mul_(3)
    network.on_before_optimizer_step_()
    network.on_step_end_()
    assert torch.equal(network.atoms.grad, torch.ones_like(network.atoms))
    torch.testing.assert_close(network.atom_norms(), torch.full((5,), 3.0))


def test_b_pre_starts_from_the_data() -> None:
    x = torch.rand(50, 12)
    x[0] += 1000
    zeros, mean, median = (_linear(b_pre=kind) for kind in ("zeros", "mean", "geometric_median"))
    for network in (zeros, mean, median):
        network.setup_(TrainingData(x, x.mean(dim=0), (1, 3, 4), 50))
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


def test_atoms_may_start_as_patches_of_images() -> None:
    """Images of one bright pixel each: the patch around it is that pixel's deviation from the mean."""
    torch.manual_seed(0)
    images = torch.eye(81)  # 9 x 9
    network = _linear(input_dim=81, latent_dim=40, start="patches", encoder_scale=0.2)
    assert network.encoder_weight is not None
    network.setup_(TrainingData(images, images.mean(dim=0), (1, 9, 9), 81))
    torch.testing.assert_close(network.atom_norms(), torch.ones(40))
    torch.testing.assert_close(network.encoder_weight, 0.2 * network.atoms)
    assert (network.atoms.max(dim=1).values > 0.98).all()
    far = torch.full((1, 81), 0.5)
    far[0, 0] = 1.0
    network.setup_(TrainingData(far, torch.zeros(81), (1, 9, 9), 1))
    for atom in network.atoms.detach().reshape(40, 9, 9):  # a Gaussian bump: near its middle about exp(-1/18)
        row, column = divmod(int(atom.argmax()), 9)
        beside = atom[row, column + 1 if column < 8 else column - 1]
        if (row, column) != (0, 0):
            assert (beside / atom.max()).item() == pytest.approx(np.exp(-1 / 18), abs=0.02)


def test_patches_need_images() -> None:
    network, vectors = _linear(input_dim=81, latent_dim=4, start="patches"), torch.eye(81)
    with pytest.raises(ConfigError, match=r"^start=patches: the data are vectors, .* \(expected random\)$"):
        network.check((81,))
    with pytest.raises(ConfigError, match="the data are vectors"):
        network.setup_(TrainingData(vectors, vectors.mean(dim=0), (81,), 81))
    network.check((1, 9, 9))
    _linear(input_dim=81).check((81,))


def test_colour_patches_are_cut_out_of_all_channels_at_one_place() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 9, 9)
    image[0, :, 4, 4] = torch.tensor([1.0, 0.5, 0.25])  # the one bright pixel
    image[0, :, 4, 8] = -1  # four pixels off: seen at exp(-16 / 18)
    network = _linear(input_dim=243, latent_dim=5, start="patches")
    network.setup_(TrainingData(image.reshape(1, -1), torch.zeros(243), (3, 9, 9), 1))
    for atom in network.atoms.detach().reshape(5, 3, 9, 9):
        scaled = atom / atom[0, 4, 4]
        torch.testing.assert_close(scaled[:, 4, 4], torch.tensor([1.0, 0.5, 0.25]), atol=0.02, rtol=0)
        torch.testing.assert_close(scaled[:, 4, 8], torch.full((3,), -np.exp(-16 / 18)).float(), atol=0.02, rtol=0)


def test_tied_weights_cannot_start_smaller() -> None:
    with pytest.raises(ValueError, match=r"encoder_scale=0\.2: tied weights"):
        _linear(tied=True, encoder_scale=0.2)


def _lista(**changes: object) -> LISTA:
    options = {key: value for key, value in OPTIONS.items() if key != "tied"}
    return LISTA(**(options | {"steps": 2, "shared": False, "step_size": 0.1, "refine_steps": 0} | changes))


def test_lista_with_the_gradients_own_steps_is_proximal_gradient_descent() -> None:
    """W_t = s * atoms, a = soft thresholding: each correction is one step of ISTA."""
    torch.manual_seed(0)
    network, x = _lista(steps=30, shared=True).double(), torch.rand(7, 12, dtype=torch.float64)
    atoms = network.atoms.detach()
    step, penalty = 1 / torch.linalg.matrix_norm(atoms, 2).item() ** 2, 0.3
    with torch.no_grad():
        network.step_weights[0].copy_(step * atoms)

    def shrink(pre: torch.Tensor) -> torch.Tensor:
        return (pre - step * penalty).relu()

    z = shrink(network.encode(x))
    for correct in network.corrections(x):
        z = shrink(correct(z, z != 0))
    expected = shrink(torch.nn.functional.linear(x, network.encoder_weight))
    for _ in range(30):
        expected = shrink(expected + step * (x - expected @ atoms) @ atoms.T)
    torch.testing.assert_close(z, expected)


def test_only_trained_codes_are_refined() -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 12)
    model = SparseAutoencoder(_lista(refine_steps=2), TopK(k=2, signed=False, reduction="mean", latent_dim=5))
    plain = model(x, x).z
    assert torch.equal(model.encode(x), model.network.refine(x, plain))
    assert not torch.equal(model.encode(x), plain)


def test_refining_reaches_the_least_squares_solution_on_the_support() -> None:
    torch.manual_seed(0)
    network, x = _lista(refine_steps=3).double(), torch.randn(6, 12, dtype=torch.float64)
    z = torch.zeros(6, 5, dtype=torch.float64)
    for row in range(5):  # the last sample keeps nothing
        z[row, torch.randperm(5)[:3]] = -1e-6  # negative codes may go anywhere
    refined = network.refine(x, z).detach()
    assert torch.equal(refined != 0, z != 0)
    for row in range(5):
        on = z[row] != 0
        best = np.linalg.lstsq(network.atoms.detach()[on].T.numpy(), x[row].numpy(), rcond=None)[0]
        np.testing.assert_allclose(refined[row, on], best, atol=1e-8)
    assert (network.refine(x, -z) >= 0).all()  # positive ones stay so


def test_parts_learn_at_multiples_of_the_rate(tmp_path: Path) -> None:
    config = plain_config("model=linear", "model.atom_rate=2", "sparsity=jumprelu", "optimizer.lr=0.01")
    module = AutoencoderJob(config, Run(tmp_path)).module
    groups = module.new_optimizer().param_groups
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.01, 3), (0.02, 1), (0.1, 1)]
    assert groups[1]["params"][0] is module.model.network.atoms
    assert groups[2]["params"][0] is module.model.sparsity.log_theta


@pytest.mark.parametrize("optimizer", [["optimizer=adamw"], ["optimizer=sgd", "optimizer.weight_decay=0.01"]])
def test_weight_decay_is_for_matrices(optimizer: list[str], tmp_path: Path) -> None:
    module = AutoencoderJob(plain_config("model=linear", "sparsity=jumprelu", *optimizer), Run(tmp_path)).module
    decay = {p: group["weight_decay"] for group in module.new_optimizer().param_groups for p in group["params"]}
    network = module.model.network
    assert decay[network.atoms] == decay[network.encoder_weight] == 0.01
    assert decay[network.encoder_bias] == decay[network.b_pre] == decay[module.model.sparsity.log_theta] == 0


def test_units_of_lista_are_replaced_in_its_corrections_too() -> None:
    network, x = _lista(), torch.rand(2, 12)
    changed = network.replace_units_(torch.tensor([1, 3]), x, scale=1.0)
    assert len(changed) == 3 + 2
    for weight in network.step_weights:
        torch.testing.assert_close(weight[[1, 3]], 0.1 * network.atoms[[1, 3]])
