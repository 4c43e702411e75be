"""What every ``conf/sparsity/*.yaml`` with every ``conf/model/*.yaml`` keeps to."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from sparse_ae.config.build import locate
from sparse_ae.dead import AuxK, DeadUnits
from sparse_ae.models import SparseAutoencoder, build_autoencoder, sparse_products
from sparse_ae.run.directory import Run
from sparse_ae.run.export import load, save_model
from sparse_ae.sparsity import TrainingData
from sparse_ae.targets import SparsityTarget
from sparse_ae.training.objective import Loss, Objective
from tests.helpers import CONF, plain_config

METHODS = sorted(path.stem for path in (CONF / "sparsity").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
DIM, UNITS, BATCH = 20, 8, 16


def _class(group: str, option: str) -> Any:
    return locate(plain_config(f"{group}={option}", f"model.latent_dim={UNITS}")[group]["_target_"], group)


def _refused(method: str, network: str) -> bool:
    one, other = _class("sparsity", method), _class("model", network)
    return bool(one.traits.couples_samples and other.codes_in_steps) or (other.sets_sparsity and method != "none")


PAIRS = [(method, network) for network in MODELS for method in METHODS if not _refused(method, network)]

pytestmark = pytest.mark.parametrize(("method", "network"), PAIRS)


def _specs(method: str, network: str) -> tuple[dict[str, object], dict[str, object]]:
    small = {"k": 3, "refine_steps": 0 if method == "kl" else 2, "widths": [2, 4], "share": 0.2, "hidden_dim": 6}

    def spec(group: str, option: str) -> dict[str, object]:
        config = plain_config(f"{group}={option}", f"model.latent_dim={UNITS}")
        return {key: small.get(key, value) for key, value in config[group].items()}

    return spec("model", network), spec("sparsity", method)


def _build(method: str, network: str, seed: int = 0) -> SparseAutoencoder:
    torch.manual_seed(seed)
    return build_autoencoder(*_specs(method, network), input_dim=DIM)


def _objective(method: str, network: str, seed: int = 0) -> Objective:
    """With all that there can be beside the method: an auxiliary loss, a target."""
    model = _build(method, network, seed)
    dead: DeadUnits = DeadUnits(window_epochs=1, latent_dim=UNITS)
    if model.network.has_atoms and not model.network.sets_sparsity:
        dead = AuxK(coefficient=0.1, k_aux=2, window_epochs=1, latent_dim=UNITS)
    dead.samples_since_fired[:3] = BATCH  # three are dead
    dead.setup_(TrainingData(_data(), _data().mean(dim=0), (DIM,), BATCH))
    measure = "l0" if model.sparsity.traits.code_range is None else "population_sparsity"
    target = SparsityTarget(measure=measure, value=0.5, gain=0.1, damping=1, start=0.1, tolerance=0.1)
    objective = Objective(model, dead, target)
    objective.on_step_start_(0, 100)
    return objective


def _data(seed: int = 1) -> Tensor:
    return torch.rand(BATCH, DIM, generator=torch.Generator().manual_seed(seed))


def test_the_support_holds_every_code_whose_gradient_counts(
    method: str, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipping what is outside of it, a step has the gradients that it has without."""
    objective, x = _objective(method, network).double(), _data().double()
    gradients = []
    for skips_below in (1.1, 0.0):
        monkeypatch.setattr(sparse_products, "_DENSE_FROM", skips_below)
        objective.zero_grad()
        objective(x, x).loss.backward()
        gradients.append({name: p.grad for name, p in objective.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)


def test_shapes_and_loss(method: str, network: str) -> None:
    model, x = _build(method, network), _data()
    z = model.encode(x)
    assert z.shape == (BATCH, UNITS)
    assert model.decode(z).shape == x.shape
    assert model.dictionary.shape == (UNITS, DIM)
    objective = _objective(method, network)
    loss = objective(x, x)
    coefficients = objective.coefficients
    assert loss.terms.keys() == coefficients.keys()
    expected = loss.recon + sum(coefficients[name] * term for name, term in loss.terms.items())
    torch.testing.assert_close(loss.loss, expected)


def test_every_parameter_gets_a_finite_gradient(method: str, network: str) -> None:
    objective, x = _objective(method, network), _data()
    objective(x, x).loss.backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_a_step_in_bfloat16(method: str, network: str) -> None:
    objective = Objective(_build(method, network)).bfloat16()
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
    loss = objective.train_step_(optimizer, _data().bfloat16(), step=0, total_steps=10)
    assert loss.loss.isfinite()
    assert loss.forward.x_hat.dtype == torch.bfloat16


def test_state_dict_round_trip(method: str, network: str) -> None:
    ours, other, x = _objective(method, network, seed=0), _objective(method, network, seed=5), _data()
    for coefficient in ours.coefficients.values():
        coefficient.fill_(0.123)
    ours.on_backward_end_(ours(x, x))
    ours.on_validation_end_({"val/l0": UNITS / 5, "val/population_sparsity": 0.2})
    assert not torch.equal(ours.model.encode(x), other.model.encode(x))
    other.load_state_dict(ours.state_dict())
    assert torch.equal(ours.model.encode(x), other.model.encode(x))
    assert torch.equal(ours(x, x).loss, other(x, x).loss)
    for objective in (ours, other):
        objective.on_backward_end_(objective(x, x))
    torch.testing.assert_close(ours.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_export_and_reload_give_identical_codes(method: str, network: str, run_copy: Path) -> None:
    model, x = _build(method, network), _data()
    loss = Objective(model)(x, x)
    model.sparsity.on_backward_end_(loss)
    network_spec, sparsity_spec = _specs(method, network)
    model.input_shape = (1, 4, 5)
    save_model(Run(run_copy), model, network=network_spec, sparsity=sparsity_spec)
    reloaded = load(run_copy)
    assert not reloaded.training
    z = model.eval().encode(x)
    assert torch.equal(reloaded.encode(x), z)
    assert torch.equal(reloaded.decode(z), model.decode(z))


class _Program(nn.Module):
    """``functional_call`` calls ``forward``: give it the training loss, or with one what follows it."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, x: Tensor, past: Loss | None = None) -> tuple[Tensor, Loss | None]:
        if past is not None:
            self.objective.on_backward_end_(past)
            return x, None
        loss = self.objective(x, x)
        return loss.loss, loss


def test_two_models_under_vmap_train_as_one_after_the_other(method: str, network: str) -> None:
    """Plain SGD for a few steps, models that differ in weights and coefficients: one stacked program, same result,
    in parameters and in whatever follows training.
    """
    if _class("model", network).sets_sparsity:
        pytest.skip("a pursuit ends where the data say; stacks pursue one model after the other")
    rate, steps = 0.5, 4
    programs = [_Program(_objective(method, network, seed)) for seed in (0, 1)]
    for factor, program in zip((0.5, 3.0), programs, strict=True):
        for coefficient in program.objective.coefficients.values():
            coefficient.mul_(factor)
    batches = [_data(seed) for seed in range(steps)]

    parameters, buffers = stack_module_state(programs)
    skeleton = copy.deepcopy(programs[0]).to("meta")

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Loss]:
        result: tuple[Tensor, Loss] = functional_call(skeleton, (parameters, buffers), (x,))
        return result

    def observe(buffers: dict[str, Tensor], parameters: dict[str, Tensor], x: Tensor, past: Loss) -> Tensor:
        functional_call(skeleton, (parameters, buffers), (x, past))
        return x.sum()

    for x in batches:
        gradients, past = vmap(grad(loss, has_aux=True), in_dims=(0, 0, None))(parameters, buffers, x)
        vmap(observe, in_dims=(0, 0, None, 0))(buffers, parameters, x, past)
        parameters = {name: value - rate * gradients[name] for name, value in parameters.items()}

    for index, program in enumerate(programs):
        optimizer = torch.optim.SGD(program.parameters(), lr=rate)
        for x in batches:
            optimizer.zero_grad()
            value, past = program(x)
            value.backward()
            program(x, past)
            optimizer.step()
        for name, value in program.named_parameters():
            torch.testing.assert_close(parameters[name][index], value, rtol=1e-4, atol=1e-6, msg=name)
        for name, value in program.named_buffers():
            torch.testing.assert_close(buffers[name][index], value, rtol=1e-4, atol=1e-6, msg=name)


def test_evaluating_the_loss_changes_nothing(method: str, network: str) -> None:
    objective, x = _objective(method, network), _data()
    before = {name: value.clone() for name, value in objective.state_dict().items() if isinstance(value, Tensor)}
    first = objective(x, x)
    assert torch.equal(objective(x, x).loss, first.loss)
    for name, value in before.items():
        assert torch.equal(objective.state_dict()[name], value), name


def test_a_sample_alone_is_coded_about_as_sparsely_as_in_training(method: str, network: str) -> None:
    """Where a batch shares its codes out, what ``on_backward_end_`` estimates has to keep their number."""
    if _build(method, network).sparsity.needs_an_end:
        pytest.skip("training keeps another number of units until its schedule ends")
    objective = _objective(method, network)
    alone = batch = 0.0
    for seed in range(60):
        x = _data(seed)
        loss = objective(x, x)
        objective.on_backward_end_(loss)
        batch += float((loss.forward.z != 0).sum())
        alone += float((objective.model.encode(x) != 0).sum()) if seed >= 20 else batch / (seed + 1)
    assert alone == pytest.approx(batch, rel=0.25)
