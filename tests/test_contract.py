"""What every ``conf/sparsity/*.yaml`` with every ``conf/model/*.yaml`` keeps to."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

import sparse_ae
from sparse_ae.export import build_autoencoder, load, save_model
from sparse_ae.models import SparseAutoencoder
from sparse_ae.runs import Run
from tests.conftest import plain_config

CONF = Path(sparse_ae.__file__).parent / "conf"
METHODS = sorted(path.stem for path in (CONF / "sparsity").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
DIM, UNITS, BATCH = 20, 8, 16

pytestmark = [pytest.mark.parametrize("method", METHODS), pytest.mark.parametrize("network", MODELS)]


def _specs(method: str, network: str) -> tuple[dict[str, object], dict[str, object]]:
    config = plain_config(f"sparsity={method}", f"model={network}", f"model.latent_dim={UNITS}")
    return config["model"], config["sparsity"]


def _build(method: str, network: str, seed: int = 0) -> SparseAutoencoder:
    torch.manual_seed(seed)
    return build_autoencoder(*_specs(method, network), input_dim=DIM)


def _data(seed: int = 1) -> Tensor:
    return torch.rand(BATCH, DIM, generator=torch.Generator().manual_seed(seed))


def test_shapes_and_loss(method: str, network: str) -> None:
    model, x = _build(method, network), _data()
    z = model.encode(x)
    assert z.shape == (BATCH, UNITS)
    assert model.decode(z).shape == x.shape
    assert model.dictionary.shape == (UNITS, DIM)
    objective = model.objective(x, x)
    coefficients = model.sparsity.coefficients
    assert objective.terms.keys() == coefficients.keys()
    expected = objective.recon + sum(coefficients[name] * term for name, term in objective.terms.items())
    torch.testing.assert_close(objective.loss, expected)


def test_every_parameter_gets_a_finite_gradient(method: str, network: str) -> None:
    model, x = _build(method, network), _data()
    model.objective(x, x).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_state_dict_round_trip(method: str, network: str) -> None:
    model, other, x = _build(method, network, seed=0), _build(method, network, seed=5), _data()
    for coefficient in model.sparsity.coefficients.values():
        coefficient.fill_(0.123)
    assert not torch.equal(model.encode(x), other.encode(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.encode(x), other.encode(x))
    assert torch.equal(model.objective(x, x).loss, other.objective(x, x).loss)


def test_export_and_reload_give_identical_codes(method: str, network: str, run_copy: Path) -> None:
    model, x = _build(method, network), _data()
    network_spec, sparsity_spec = _specs(method, network)
    save_model(Run(run_copy), model, network=network_spec, sparsity=sparsity_spec, input_shape=(1, 4, 5))
    reloaded = load(run_copy)
    assert not reloaded.training
    z = model.eval().encode(x)
    assert torch.equal(reloaded.encode(x), z)
    assert torch.equal(reloaded.decode(z), model.decode(z))


class _Objective(nn.Module):
    """``functional_call`` calls ``forward``: give it the training loss."""

    def __init__(self, model: SparseAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.objective(x, x).loss


def test_two_models_under_vmap_train_as_one_after_the_other(method: str, network: str) -> None:
    """Plain SGD for a few steps, models that differ in weights and coefficients: one stacked program, same result."""
    rate, steps = 0.5, 4
    models = [_Objective(_build(method, network, seed)) for seed in (0, 1)]
    for factor, objective in zip((0.5, 3.0), models, strict=True):
        for coefficient in objective.model.sparsity.coefficients.values():
            coefficient.mul_(factor)
    batches = [_data(seed) for seed in range(steps)]

    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        result: Tensor = functional_call(skeleton, (parameters, buffers), (x,))
        return result

    for x in batches:
        gradients = vmap(grad(loss), in_dims=(0, 0, None))(parameters, buffers, x)
        parameters = {name: value - rate * gradients[name] for name, value in parameters.items()}

    for index, objective in enumerate(models):
        optimizer = torch.optim.SGD(objective.parameters(), lr=rate)
        for x in batches:
            optimizer.zero_grad()
            objective(x).backward()
            optimizer.step()
        for name, value in objective.named_parameters():
            torch.testing.assert_close(parameters[name][index], value, rtol=1e-4, atol=1e-6, msg=name)
