"""Targets: real training on real images."""

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_ae.config.build import build
from sparse_ae.data import MNIST
from sparse_ae.dead import DeadUnits
from sparse_ae.models import build_autoencoder
from sparse_ae.sparsity import L1, BatchTopK, Forward, Loss, NoSparsity, TopK, TrainingData
from sparse_ae.targets import CoefficientPath, SparsityTarget, Target
from sparse_ae.training.objective import Objective
from sparse_ae.training.schedulers import make_optimizer
from tests.helpers import plain_config

UNITS = 64


@pytest.fixture(scope="module")
def images() -> Tensor:
    data: MNIST = build(plain_config()["data"], "data")
    data.prepare_data()
    whole = data.first("train", 6000).reshape(-1, 1, 28, 28)
    return F.avg_pool2d(whole, 4).flatten(1)  # 7 x 7: small and quick, and still handwriting


def _objective(*overrides: str) -> Objective:
    torch.manual_seed(0)
    config: dict[str, Any] = plain_config(f"model.latent_dim={UNITS}", *overrides)
    if "hidden_sizes" in config["model"]:
        config["model"]["hidden_sizes"] = [64]
    target: Target = build(config["target"], "target")
    model = build_autoencoder(config["model"], target.sparsity_spec(config["sparsity"], UNITS), input_dim=49)
    return Objective(model, DeadUnits(window_epochs=1, latent_dim=UNITS), target)


def _train(objective: Objective, images: Tensor, steps: int) -> dict[str, float]:
    """Returns the sparsity on images not trained on."""
    train, val = images[:5000], images[5000:]
    objective.setup_(TrainingData(train, train.mean(dim=0), (1, 7, 7), len(train)))
    optimizer = make_optimizer(partial(torch.optim.Adam, lr=1e-3), objective.model)
    generator = torch.Generator().manual_seed(0)
    metrics: dict[str, float] = {}
    for step in range(steps):
        x = train[torch.randint(len(train), (128,), generator=generator)]
        objective.train_step_(optimizer, x, step=step, total_steps=steps)
        if (step + 1) % (steps // 10) == 0:
            with torch.no_grad():
                z = objective.model.encode(val)
            metrics = {
                "val/l0": float((z != 0).double().sum(dim=1).mean()),
                "val/population_sparsity": float((z > 0.1).double().mean()),
            }
            objective.on_validation_end_(metrics)
    return metrics


@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("l1", "linear"),
        pytest.param("l1", "mlp", marks=pytest.mark.slow),
        pytest.param("hoyer", "linear", marks=pytest.mark.slow),
        pytest.param("gated", "linear", marks=pytest.mark.slow),
        pytest.param("jumprelu", "linear", marks=pytest.mark.slow),
        pytest.param("gated", "mlp", marks=pytest.mark.slow),
        pytest.param("kl", "linear", marks=pytest.mark.slow),
        pytest.param("batch_topk", "linear", marks=pytest.mark.slow),
        pytest.param("wta", "linear", marks=pytest.mark.slow),
    ],
)
def test_the_target_is_met(method: str, network: str, images: Tensor) -> None:
    measure, value = ("population", 0.15) if method == "kl" else ("l0", 10)
    objective = _objective(f"sparsity={method}", f"model={network}", f"target={measure}", f"target.value={value}")
    metrics = _train(objective, images, 2500)
    assert isinstance(objective.target, SparsityTarget)
    verdict = objective.target.verdict(metrics)
    assert verdict is not None
    assert verdict.reached == pytest.approx(value, rel=0.05)
    assert verdict.met == (abs(verdict.reached / value - 1) <= objective.target.tolerance)


def test_a_target_out_of_reach_is_told(images: Tensor) -> None:
    """Codes of a dense batch cannot be made denser by any coefficient."""
    objective = _objective("sparsity=l1", "model=linear", "target=l0", "target.value=63.9", "target.start=2e-8")
    metrics = _train(objective, images, 100)
    assert objective.target is not None
    assert objective.target.stuck is not None
    verdict = objective.target.verdict(metrics)
    assert verdict is not None
    assert not verdict.met
    assert verdict.reason.startswith("target l0=63.9 is out of reach: the coefficient is at its lowest, ")


def test_units_that_are_kept_and_not_active_are_told() -> None:
    target = SparsityTarget(measure="population_sparsity", value=0.2, gain=5, damping=0.5, start=0.01, tolerance=0.02)
    target.attach_(TopK(k=2, signed=False, reduction="mean", latent_dim=10), 0.1)
    assert _reason(target, 0.1).endswith("but not every code that it keeps is active")
    assert _reason(target, 0.3).endswith("this is the nearest number of them")
    target.attach_(BatchTopK(k=2, reduction="mean", latent_dim=10), 0.1)
    assert "the threshold has not settled" in _reason(target, 0.3)


def _reason(target: SparsityTarget, reached: float) -> str:
    verdict = target.verdict({"val/population_sparsity": reached})
    assert verdict is not None
    return verdict.reason


def _observed(target: SparsityTarget, method: L1, active: int) -> float:
    """A batch with so many active units of 10; reconstruction error 0.5, the term's value 0.2."""
    z = torch.zeros(4, 10)
    z[:, :active] = 1
    x = torch.zeros(4, 3)
    target.on_backward_end_(
        Loss(torch.tensor(0.5), torch.tensor(0.5), {"l1": torch.tensor(0.2)}, Forward(x, x, z, z, x))
    )
    return method.coefficients["l1"].item()


def test_the_controller_by_hand() -> None:
    target = SparsityTarget(measure="l0", value=6, gain=5, damping=0.5, start=0.01, tolerance=0.02)
    method = L1(coefficient=1, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=10)
    target.attach_(method, threshold=0.1)
    assert method.coefficients["l1"].item() == 0
    target.on_step_start_(0, 500)
    error = math.log(8 / 6)
    integral = math.log(0.01 * 0.5 / 0.2) + 0.01 * error  # the term at a hundredth of the reconstruction error
    assert _observed(target, method, 8) == pytest.approx(math.exp(integral + 0.5 * error))
    target.on_validation_end_({"val/l0": 6.6})  # training is too far away for this to say anything about the splits
    error = (math.log(8 / 6) + math.log(5 / 6)) / 2  # the mean of two batches
    integral += 0.01 * error
    assert _observed(target, method, 5) == pytest.approx(math.exp(integral + 0.5 * error))
    target.on_validation_end_({"val/l0": 6.6})
    error = (2 * error + math.log(5 / 6)) / 3 + 0.7 * math.log(1.1)
    integral += 0.01 * error
    assert _observed(target, method, 5) == pytest.approx(math.exp(integral + 0.5 * error), rel=1e-5)
    integral -= 0.01 * 0.5  # far from the target the error counts as 0.5
    assert _observed(target, method, 0) == pytest.approx(math.exp(integral - 0.5 * 0.5), rel=1e-5)


@pytest.mark.parametrize(("steps", "rate"), [(50, 0.05), (500, 0.01), (20_000, 5e-4), (math.inf, 5e-4)])
def test_the_gain_is_spread_over_the_training_within_bounds(steps: float, rate: float) -> None:
    target = SparsityTarget(measure="l0", value=6, gain=5, damping=0, start=0.01, tolerance=0.02)
    method = L1(coefficient=1, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=10)
    target.attach_(method, threshold=0.1)
    target.on_step_start_(0, steps)
    error = math.log(8 / 6)
    assert _observed(target, method, 8) == pytest.approx(0.01 * 0.5 / 0.2 * math.exp(rate * error), rel=1e-5)


@pytest.mark.parametrize("term", [0.0, 0.2])
def test_the_search_starts_where_the_term_weighs_little_whatever_the_config_says(term: float) -> None:
    z, x = torch.ones(4, 10), torch.zeros(4, 3)
    found = []
    for coefficient in (0.0, 1e-4, 1.0):
        target = SparsityTarget(measure="l0", value=10, gain=5, damping=0.5, start=0.01, tolerance=0.02)
        method = L1(coefficient=coefficient, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=10)
        target.attach_(method, threshold=0.1)
        target.on_backward_end_(
            Loss(torch.tensor(0.5), torch.tensor(0.5), {"l1": torch.tensor(term)}, Forward(x, x, z, z, x))
        )
        found.append(method.coefficients["l1"].item())
    assert found == pytest.approx([0.01 * (0.5 / term if term else 1)] * 3, rel=1e-5)


def test_the_controllers_state_is_in_its_checkpoint() -> None:
    states = []
    for _ in range(2):
        target = SparsityTarget(measure="l0", value=2, gain=5, damping=0.5, start=0.01, tolerance=0.02)
        method = L1(coefficient=1, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=10)
        target.attach_(method, threshold=0.1)
        states.append((target, method))
    (first, method), (second, other) = states
    for active in (8, 3, 1):
        _observed(first, method, active)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(method.state_dict())
    assert _observed(first, method, 5) == _observed(second, other, 5)


def test_a_path_rises_from_first_to_last_and_keeps_its_points() -> None:
    path = CoefficientPath(first=0.1, last=10)
    method = L1(coefficient=2, atom_norm=False, reduction="mean", warmup_steps=0, latent_dim=10)
    path.attach_(method, threshold=0.1)
    seen = []
    for step in (0, 5, 10):
        path.on_step_start_(step, 11)
        seen.append(method.coefficients["l1"].item())
        path.on_validation_end_({"val/mse": float(step), "test/mse": 1.0})
    assert seen == pytest.approx([0.2, 2, 20])
    path.on_validation_end_({"val/mse": 10.0})  # the same coefficient once more
    other = CoefficientPath(first=0.1, last=10)
    other.load_state_dict(path.state_dict())
    assert other.points == [
        {"coefficient": pytest.approx(c), "val/mse": mse} for c, mse in zip(seen, (0.0, 5.0, 10.0), strict=True)
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sparsity=kl", "target=l0"], "KL's codes are never exactly 0"),
        (["sparsity=l1", "target=l0", "sparsity.warmup_steps=5"], "warmup_steps=5: the target steers"),
        (["sparsity=l1", "target=coefficient_path", "sparsity.coefficient=0"], "coefficient=0: the path multiplies it"),
        (["sparsity=wta", "sparsity.encode=relu", "target=l0"], "encode=relu: a sample may have any number"),
        (["sparsity=topk", "target=coefficient_path"], "TopK has no coefficient to steer"),
        (["sparsity=l1", "target=population", "target.value=2"], "target.value=2: population_sparsity is a share"),
        (["sparsity=l1", "target=coefficient_path", "target.last=1e-9"], "target.last=1e-09: the path rises"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _objective(*overrides)


def test_nothing_to_set_is_refused() -> None:
    target = SparsityTarget(measure="l0", value=2, gain=5, damping=0.5, start=0.01, tolerance=0.02)
    with pytest.raises(ValueError, match="NoSparsity has no sparsity to set"):
        target.arguments_for(NoSparsity, 10)
