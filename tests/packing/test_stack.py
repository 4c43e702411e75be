"""Stacked training: every method, network, target and remedy for dead units as alone, in one program."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse_ae.config.build import build, locate
from sparse_ae.config.errors import ConfigError
from sparse_ae.models import build_autoencoder
from sparse_ae.packing.stack import Stack
from sparse_ae.sparsity import TrainingData
from sparse_ae.training.objective import Objective
from sparse_ae.training.schedulers import adam, make_optimizer
from tests.helpers import CONF, plain_config

METHODS, MODELS, TARGETS, DEAD = (
    sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("sparsity", "model", "target", "dead")
)
DIM, UNITS, BATCH, MEMBERS = 20, 16, 32, 3
SMALL = {
    "k": 3,
    "widths": [2, 4],
    "share": 0.2,
    "hidden_dim": 6,
    "k_aux": 4,
    "window_epochs": 0.1,
    "hidden_sizes": [12],
}


def _objective(method: str, network: str, target: str, dead: str, member: int) -> Objective:
    """One that differs from the others in its weights and in every coefficient. Raises ``ConfigError``."""
    config = plain_config(
        f"sparsity={method}", f"model={network}", f"target={target}", f"dead={dead}", f"model.latent_dim={UNITS}"
    )
    spec = {g: {k: SMALL.get(k, v) for k, v in config[g].items()} for g in ("sparsity", "model", "target", "dead")}
    if "coefficient" in spec["sparsity"]:
        spec["sparsity"]["coefficient"] = 0.03 * 2**member
    if "value" in spec["target"]:
        keeps_units = locate(spec["sparsity"]["_target_"], "sparsity").traits.steered is None
        spec["target"]["value"] = 3.0 if spec["target"]["measure"] == "l0" else 0.2
        spec["target"]["value"] *= 1.0 if keeps_units else 1 + 0.1 * member
    steering = build(spec["target"], "target") if spec["target"] else None
    if steering is not None:
        spec["sparsity"] = steering.sparsity_spec(spec["sparsity"], UNITS)
    torch.manual_seed(member)
    model = build_autoencoder(spec["model"], spec["sparsity"], input_dim=DIM)
    remedy = build(spec["dead"], "dead", latent_dim=UNITS)
    objective = Objective(model, remedy, steering)
    sample = _data(7)
    objective.setup_(TrainingData(sample, sample.mean(dim=0), (DIM,), 4 * BATCH))
    return objective


def _data(seed: int) -> Tensor:
    return torch.rand(BATCH, DIM, generator=torch.Generator().manual_seed(seed))


def _combinations() -> list[tuple[str, str, str, str]]:
    """All pairs of a method and a network, and with a linear one all targets and remedies for dead units."""
    found = [(method, network, "none", "none") for method in METHODS for network in MODELS]
    found += [(method, "linear", target, "none") for method in METHODS for target in TARGETS]
    found += [(method, "linear", "none", dead) for method in METHODS for dead in DEAD]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("method", "network", "target", "dead"), _combinations())
@pytest.mark.parametrize(
    ("steps", "shares_batches"),
    [(6, False), *(pytest.param(100, shares, marks=pytest.mark.slow) for shares in (True, False))],
)
def test_members_end_as_alone(
    method: str, network: str, target: str, dead: str, steps: int, shares_batches: bool
) -> None:
    try:
        alone = [_objective(method, network, target, dead, member) for member in range(MEMBERS)]
    except ConfigError:
        pytest.skip("a combination that no run can have")
    alone = [objective.double() for objective in alone]
    stack = Stack(copy.deepcopy(alone))
    optimizer = make_optimizer(adam, stack.whole.model)
    optimizers = [make_optimizer(adam, objective.model) for objective in alone]
    for step in range(steps):
        batches = [_data(100 + step + (0 if shares_batches else 1000 * member)).double() for member in range(MEMBERS)]
        x = batches[0] if shares_batches else torch.stack(batches)
        losses = stack.train_step_(optimizer, x, step=step, total_steps=100)
        for member in range(MEMBERS):
            loss = alone[member].train_step_(optimizers[member], batches[member], step=step, total_steps=100)
            assert losses.terms.keys() == loss.terms.keys()
        if step == steps // 2:
            metrics = {"val/l0": 4.0, "val/population_sparsity": 0.3, "val/lifetime_sparsity": 0.3}
            for objective in (*alone, *stack.members):
                objective.on_validation_end_(metrics)
    for member, objective in enumerate(alone):
        _assert_close(stack.members[member], objective)


def _assert_close(one: Objective, other: Objective) -> None:
    expected = dict(other.named_parameters()) | dict(other.named_buffers())
    for name, value in (dict(one.named_parameters()) | dict(one.named_buffers())).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9, msg=name)


def test_members_are_views_of_the_whole() -> None:
    members = [_objective("l1", "linear", "none", "none", member) for member in range(MEMBERS)]
    before = [
        {name: value.clone() for name, value in m.state_dict().items() if torch.is_tensor(value)} for m in members
    ]
    stack = Stack(members)
    for member, state in zip(members, before, strict=True):
        for name, value in state.items():
            assert torch.equal(member.state_dict()[name], value), name
    saved: dict[str, Any] = _objective("l1", "linear", "none", "none", 9).state_dict()
    members[1].load_state_dict(saved)
    assert torch.equal(stack.whole.model.network.atoms[1], saved["model.network.atoms"])  # type: ignore[index,union-attr]
    assert float(stack.whole.coefficients["l1"][1]) == pytest.approx(0.03 * 2**9)
    assert [float(c) for c in stack.whole.coefficients["l1"]] == [
        float(member.coefficients["l1"]) for member in members
    ]


def test_other_programs_are_not_stacked() -> None:
    one = _objective("topk", "linear", "none", "none", 0)
    for other in (
        _objective("batch_topk", "linear", "none", "none", 0),
        _objective("topk", "mlp", "none", "none", 0),
        _objective("topk", "linear", "none", "auxk", 0),
    ):
        with pytest.raises(ValueError, match="one program"):
            Stack([one, other])


@pytest.mark.parametrize("network", MODELS)
def test_gradients_under_mixed_precision(network: str) -> None:
    """As of the members alone, up to the rounding of bfloat16."""
    method = "none" if network == "matching_pursuit" else "l1"
    alone = [_objective(method, network, "none", "none", member) for member in range(MEMBERS)]
    stack = Stack(copy.deepcopy(alone))
    batches = [_data(member) for member in range(MEMBERS)]
    with torch.autocast("cpu", torch.bfloat16):
        whole = stack.whole(torch.stack(batches), torch.stack(batches))
        losses = [objective(x, x) for objective, x in zip(alone, batches, strict=True)]
    whole.loss.sum().backward()
    for member, loss in enumerate(losses):
        loss.loss.backward()
        torch.testing.assert_close(whole.loss[member], loss.loss, rtol=0.02, atol=1e-3)
    for name, parameter in stack.whole.named_parameters():
        expected = torch.stack([objective.get_parameter(name).grad for objective in alone])  # type: ignore[misc]
        assert parameter.grad is not None
        assert torch.nn.functional.cosine_similarity(parameter.grad.flatten(), expected.flatten(), dim=0) > 0.99, name
