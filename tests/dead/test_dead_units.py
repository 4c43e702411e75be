"""Dead units: counted in samples, revived by a loss or by being started anew."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_ae.dead import AuxK, DeadUnits, Resample
from sparse_ae.dead.base import Moment
from sparse_ae.models import LISTA, MLP, Linear, SparseAutoencoder
from sparse_ae.sparsity import Forward, JumpReLU, Loss, TopK, TrainingData
from sparse_ae.training.objective import Objective

PLAIN: Any = {"start": "random", "encoder_scale": 1, "atom_rate": 1}

UNITS, DIM, BATCH = 6, 4, 8


def _epoch(samples: int) -> TrainingData:
    return TrainingData(torch.zeros(1, DIM), torch.zeros(DIM), (DIM,), samples)


def _codes(*active: int) -> Loss:
    z = torch.zeros(BATCH, UNITS)
    z[3, list(active)] = -1.0  # one sample is enough, and a negative code is one
    x, zero = torch.zeros(BATCH, DIM), torch.zeros(())
    return Loss(zero, zero, {}, Forward(x, x, z, z, x))


def _linear() -> Linear:
    torch.manual_seed(0)
    return Linear(input_dim=DIM, latent_dim=UNITS, tied=False, unit_norm=True, b_pre="zeros", **PLAIN)


def test_samples_since_each_unit_fired_and_how_many_came_back() -> None:
    units = DeadUnits(window_epochs=1, latent_dim=UNITS)
    units.on_backward_end_(_codes())
    assert not units.dead.any()  # how long an epoch is, was not said yet
    units.setup_(_epoch(16))
    units.on_backward_end_(_codes(0, 1))
    assert units.samples_since_fired.tolist() == [0, 0, 16, 16, 16, 16]
    assert units.dead.tolist() == [False, False, True, True, True, True]
    units.on_backward_end_(_codes(0, 2))
    assert units.samples_since_fired.tolist() == [0, 8, 0, 24, 24, 24]
    assert int(units.revived) == 1
    other = DeadUnits(window_epochs=1, latent_dim=UNITS)
    other.setup_(_epoch(16))
    other.load_state_dict(units.state_dict())
    assert other.dead.tolist() == units.dead.tolist()
    assert int(other.revived) == 1


def _auxk(dead: list[int], k_aux: int = 2) -> AuxK:
    auxk = AuxK(coefficient=0.5, k_aux=k_aux, window_epochs=1, latent_dim=UNITS)
    auxk.setup_(_epoch(BATCH))
    auxk.samples_since_fired[dead] = BATCH
    return auxk


def _pass(network: Linear, pre: Tensor) -> Forward:
    x = torch.rand(BATCH, DIM, generator=torch.Generator().manual_seed(2))
    z = pre.relu()
    return Forward(x, x, pre, z, network.decode(z))


def test_auxk_is_the_share_of_the_residual_that_dead_units_leave() -> None:
    network, dead = _linear(), [1, 3, 4]
    auxk = _auxk(dead)
    auxk.samples_since_fired[3] += 1
    auxk.samples_since_fired[4] += 2  # k_aux = 2: the first has to wait
    pre = torch.full((BATCH, UNITS), -1.0)
    pre[:6, 0], pre[:4, 2] = 1.0, 1.0
    pre[2, 3], pre[5, 3], pre[6, 3] = 2.0, 3.0, 0.5
    pre[1, 4], pre[2, 4] = -0.5, -0.25
    forward = _pass(network, pre)
    assert (forward.z != 0).sum() // UNITS == 2  # samples that a unit is active on
    term = auxk.losses(forward, network)["auxk"]

    residual = forward.x - forward.x_hat
    left = residual.clone()
    for sample, unit, code in ((2, 3, 2.0), (5, 3, 3.0), (1, 4, 1 - 0.5), (2, 4, 1 - 0.25)):  # the next of unit 4 is -1
        left[sample] -= code * network.atoms[unit]
    torch.testing.assert_close(term, left.square().sum() / residual.square().sum())


def test_auxk_of_a_single_sample_and_of_equal_ones_is_finite() -> None:
    network, auxk = _linear(), _auxk([1, 3])
    for pre in (torch.ones(1, UNITS), torch.zeros(BATCH, UNITS)):
        x = torch.rand(len(pre), DIM)
        assert auxk.losses(Forward(x, x, pre, pre, network.decode(pre)), network)["auxk"].isfinite()


def test_the_threshold_of_a_dead_unit_falls_until_it_fires() -> None:
    network, x = _linear(), torch.rand(BATCH, DIM, generator=torch.Generator().manual_seed(2))
    jumprelu = JumpReLU(theta=0.01, coefficient=0.0, latent_dim=UNITS)
    with torch.no_grad():
        jumprelu.log_theta[3] = math.log(50 * float(network.encode(x)[:, 3].abs().max()))
    objectives = [
        Objective(SparseAutoencoder(copy.deepcopy(network), copy.deepcopy(jumprelu)), dead)
        for dead in (DeadUnits(window_epochs=1, latent_dim=UNITS), AuxK(window_epochs=1, latent_dim=UNITS))
    ]
    for objective in objectives:
        objective.setup_(_epoch(BATCH))
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
        for step in range(1000):
            objective.train_step_(optimizer, x, step=step, total_steps=1000)
    left_alone, eased = objectives
    assert not (left_alone.model.encode(x)[:, 3] != 0).any()
    assert (eased.model.encode(x)[:, 3] != 0).any()


def test_living_units_are_not_eased() -> None:
    method = JumpReLU(theta=0.5, latent_dim=UNITS)
    auxk, network = _auxk([1, 4]), _linear()
    auxk.ease_(SparseAutoencoder(network, method), -torch.rand(BATCH, UNITS))
    assert (network.encoder_bias > 0).nonzero().squeeze(1).tolist() == [1, 4]
    fell = method.log_theta < math.log(0.5)
    assert fell.nonzero().squeeze(1).tolist() == [1, 4]


def test_thresholds_stay_while_the_last_count_found_no_dead_unit_of_this_model() -> None:
    """In a stack ``some_dead`` is True if any model has dead units, and ``has_dead`` of those that do."""
    method = JumpReLU(theta=0.5, latent_dim=UNITS)
    auxk = _auxk([1, 4])
    auxk.has_dead.fill_(False)
    network = _linear()
    auxk.ease_(SparseAutoencoder(network, method), -torch.rand(BATCH, UNITS))
    assert (network.encoder_bias == 0).all()
    torch.testing.assert_close(method.log_theta, torch.full((UNITS,), math.log(0.5)))


def test_thresholds_fall_to_where_gradients_can_bring_them_back() -> None:
    method, auxk = JumpReLU(theta=0.5, latent_dim=UNITS), _auxk([1])
    with torch.no_grad():
        method.log_theta[2] = -9.0  # as gradients have left it
    model = SparseAutoencoder(_linear(), method)
    for _ in range(3000):
        auxk.ease_(model, torch.zeros(BATCH, UNITS))
    expected = torch.full((UNITS,), math.log(0.5))
    expected[1], expected[2] = math.log(0.5) - 5, -9.0
    torch.testing.assert_close(method.log_theta.detach(), expected)


def test_the_bias_of_a_dead_unit_rises_where_it_is_negative_for_every_sample() -> None:
    network, auxk = _linear(), _auxk([1, 4, 5])
    model = SparseAutoencoder(network, TopK(k=1, signed=False, reduction="mean", latent_dim=UNITS))
    pre = -1.0 - torch.arange(BATCH).unsqueeze(1) * torch.arange(UNITS)
    pre[3, 5] = 0.1
    auxk.ease_(model, pre)
    expected = [0.0, 0.01 * np.std(range(BATCH)), 0.0, 0.0, 0.04 * np.std(range(BATCH)), 0.0]
    np.testing.assert_allclose(network.encoder_bias.detach(), expected, rtol=1e-6)
    auxk.ease_(model, pre[:1])  # a batch of one sample has no spread
    pre[0, [0, 5]] = torch.inf  # of other units
    auxk.samples_since_fired[[1, 4]] = 0
    auxk.ease_(model, pre)
    np.testing.assert_allclose(network.encoder_bias.detach(), expected, rtol=1e-6)


def test_auxk_leaves_alone_biases_that_are_no_summand_of_pre_activations() -> None:
    torch.manual_seed(0)
    network, auxk = LISTA(DIM, latent_dim=UNITS, steps=1), _auxk([1, 3])
    model = SparseAutoencoder(network, TopK(k=1, signed=False, reduction="mean", latent_dim=UNITS))
    auxk.ease_(model, -torch.rand(BATCH, UNITS))
    assert (network.encoder_bias == 0).all()
    pre = -torch.rand(BATCH, UNITS, generator=torch.Generator().manual_seed(0))
    term = auxk.losses(_pass(network, pre.requires_grad_()), network)["auxk"]
    term.backward()
    assert network.encoder_bias.grad is None
    assert pre.grad is not None
    assert pre.grad.abs().max() > 1e-3
    assert pre.grad.sum(dim=0).abs().max() < 1e-6


def test_a_window_is_long_enough_for_living_units_to_fire_in_it() -> None:
    for samples, window in ((55_000, 5_500), (5_000, 1_000), (300, 300)):
        auxk = AuxK(window_epochs=0.1, latent_dim=UNITS)
        auxk.setup_(_epoch(samples))
        assert int(auxk.window) == window


def test_of_equal_pre_activations_as_many_are_coded_as_of_others() -> None:
    network, auxk = _linear(), _auxk([3])
    pre = torch.full((BATCH, UNITS), -1.0)
    pre[:6, 0], pre[:6, 2] = 1.0, 1.0
    forward = _pass(network, pre)
    pre[:, 3] = 0.7  # below its threshold, if it had one
    residual = forward.x - forward.x_hat
    left = residual.clone()
    left[:2] -= 0.7 * network.atoms[3]
    expected = left.square().sum() / residual.square().sum()
    torch.testing.assert_close(auxk.losses(forward, network)["auxk"], expected)


def test_auxk_detaches_the_residual_and_reaches_only_dead_rows() -> None:
    network, dead = _linear(), [1, 3]
    model = SparseAutoencoder(network, TopK(k=1, signed=False, reduction="mean", latent_dim=UNITS))
    objective = Objective(model, _auxk(dead))
    x = torch.rand(BATCH, DIM)
    objective(x, x).terms["auxk"].backward()
    assert network.encoder_weight is not None
    for parameter in (network.atoms, network.encoder_weight, network.encoder_bias):
        assert parameter.grad is not None
        rows = (parameter.grad.reshape(UNITS, -1) != 0).any(dim=1)
        assert rows.nonzero().squeeze(1).tolist() == dead


def test_auxk_has_its_own_gradient_but_none_to_what_all_units_share() -> None:
    network, dead = _linear().double(), [1, 3]
    x = torch.rand(BATCH, DIM, dtype=torch.float64)
    assert network.encoder_weight is not None
    with torch.no_grad():
        network.encoder_bias[dead] = 1.0

    def term() -> Tensor:
        pre = network.encode(x)
        z = pre.relu().detach()
        z[:, dead] = 0.0
        return _auxk(dead).losses(Forward(x, x, pre, z, network.decode(z)), network)["auxk"]

    term().backward()
    assert network.b_pre.grad is not None
    assert network.encoder_bias.grad is not None
    assert network.b_pre.grad.abs().max() < 1e-12
    for unit in dead:
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                network.encoder_bias[unit] += step
                ends.append(float(term()))
                network.encoder_bias[unit] -= step
        slope = (ends[0] - ends[1]) / 2e-6
        assert abs(slope) > 0.01
        assert float(network.encoder_bias.grad[unit]) == pytest.approx(slope, rel=1e-5)


def test_auxk_is_0_while_every_unit_lives() -> None:
    network = _linear()
    pre = torch.randn(BATCH, UNITS, requires_grad=True)
    term = _auxk([]).losses(_pass(network, pre), network)["auxk"]
    assert term.item() == 0
    term.backward()
    assert pre.grad is not None
    assert (pre.grad == 0).all()


def test_auxk_is_left_out_while_the_last_count_found_no_dead_unit() -> None:
    network, auxk = _linear(), _auxk([])
    pre = torch.randn(BATCH, UNITS, requires_grad=True)
    auxk.look_()
    assert not auxk.losses(_pass(network, pre), network)["auxk"].requires_grad
    other = _auxk([])
    other.load_state_dict(auxk.state_dict())
    assert not other.some_dead
    auxk.samples_since_fired[2] = BATCH
    auxk.look_()
    assert auxk.losses(_pass(network, pre), network)["auxk"].requires_grad


def _moment(x: Tensor, epoch: int = 2, progress: float = 0.1) -> Moment:
    return Moment(epoch, progress, lambda: x, torch.Generator().manual_seed(0))


def test_resampling_starts_dead_units_anew_in_the_model_itself() -> None:
    network = _linear()
    method = JumpReLU(
        coefficient=1,
        theta=0.1,
        theta_rate=1,
        bandwidth=1,
        l0_target=None,
        reduction="mean",
        warmup_steps=0,
        latent_dim=UNITS,
    )
    model = SparseAutoencoder(network, method)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.rand(BATCH, DIM)
    resample = Resample(window_epochs=1, every_epochs=2, until=0.5, scale=0.2, latent_dim=UNITS)
    resample.setup_(_epoch(BATCH))
    Objective(model, resample)(x, x).loss.backward()
    optimizer.step()
    resample.samples_since_fired[[1, 4]] = BATCH
    assert network.encoder_weight is not None
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    pointers = [p.data_ptr() for p in model.parameters()]

    assert resample.on_epoch_start_(model, optimizer, _moment(x, epoch=1)) == 0  # not its turn
    assert resample.on_epoch_start_(model, optimizer, _moment(x, progress=0.6)) == 0  # too late
    assert resample.on_epoch_start_(model, optimizer, _moment(x)) == 2

    assert [p.data_ptr() for p in model.parameters()] == pointers
    dead, alive = [1, 4], [0, 2, 3, 5]
    typical = before["network.encoder_weight"][alive].norm(dim=1).mean()
    inputs = torch.nn.functional.normalize(x - network.b_pre, dim=1)
    for unit in dead:
        atom = network.atoms[unit]
        assert any(torch.allclose(atom, row) for row in inputs)
        torch.testing.assert_close(network.encoder_weight[unit], 0.2 * typical * atom)
        assert network.encoder_bias[unit] == 0
        assert method.log_theta[unit].exp().item() == pytest.approx(0.1)
    for parameter in (network.atoms, network.encoder_weight, network.encoder_bias, method.log_theta):
        for moment in ("exp_avg", "exp_avg_sq"):
            state = optimizer.state[parameter][moment]
            assert (state[dead] == 0).all()
    assert (optimizer.state[network.atoms]["exp_avg_sq"][alive] != 0).any()
    for name in ("network.atoms", "network.encoder_weight"):
        assert torch.equal(dict(model.named_parameters())[name][alive], before[name][alive])
    assert not resample.dead.any()


def test_inputs_are_drawn_by_the_square_of_their_error() -> None:
    """10,000 dead units: how often each of three inputs is taken."""
    units = 10_000
    network = Linear(input_dim=3, latent_dim=units, tied=False, unit_norm=True, b_pre="zeros", **PLAIN)
    model = SparseAutoencoder(network, TopK(k=1, signed=False, reduction="mean", latent_dim=units))
    with torch.no_grad():
        network.atoms.zero_()  # nothing is reconstructed: the squared error is |x|^2
    x = torch.diag(torch.tensor([1.0, 2.0, 3.0]).sqrt())
    resample = Resample(window_epochs=1, every_epochs=1, until=1, scale=1, latent_dim=units)
    resample.setup_(_epoch(1))
    resample.samples_since_fired.fill_(1)
    assert resample.on_epoch_start_(model, torch.optim.SGD(model.parameters(), lr=1), _moment(x)) == units
    taken = (network.atoms > 0.5).float().mean(dim=0)
    torch.testing.assert_close(taken, torch.tensor([1.0, 4.0, 9.0]) / 14, atol=0.015, rtol=0)


@pytest.mark.parametrize("dead", [_auxk([]), Resample(window_epochs=1, every_epochs=1, until=1, scale=1, latent_dim=6)])
def test_what_needs_atoms_says_so(dead: DeadUnits) -> None:
    mlp = MLP(input_dim=DIM, latent_dim=UNITS, hidden_sizes=[5])
    model = SparseAutoencoder(mlp, TopK(k=1, signed=False, reduction="mean", latent_dim=UNITS))
    with pytest.raises(
        ValueError, match=r"works on the atoms of a linear decoder, and MLP has none \(expected dead=none"
    ):
        Objective(model, dead)
