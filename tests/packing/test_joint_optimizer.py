"""Several optimizers stepped together against the same ones stepped one by one."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adadelta, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import ExponentialLR

from sparse_ae.packing.joint_optimizer import JointOptimizer

OPTIMIZERS = {
    "adam": partial(Adam, fused=True),
    "adam, one tensor at a time": partial(Adam, amsgrad=True),
    "adamw": partial(AdamW, fused=True, betas=(0.8, 0.99)),
    "sgd": SGD,
    "sgd with momentum": partial(SGD, momentum=0.9),
    "rmsprop": partial(RMSprop, centered=True),
    "adadelta": Adadelta,
    "nadam": NAdam,
}


def members(make: list[partial[Optimizer]]) -> tuple[list[nn.Module], list[Optimizer]]:
    """Networks, and an optimizer for each, with groups of its own learning rates."""
    torch.manual_seed(0)
    networks: list[nn.Module] = [nn.Linear(4, 3) for _ in make]
    optimizers = []
    for i, (new, network) in enumerate(zip(make, networks, strict=True)):
        weight, bias = network.parameters()
        optimizers.append(new([{"params": [weight]}, {"params": [bias], "lr": 0.03}], lr=0.01 * (1 + i % 2)))
    return networks, optimizers


def gradients_(networks: list[nn.Module], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for network in networks:
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def assert_same(make: list[partial[Optimizer]]) -> JointOptimizer:
    (ours, joined), (theirs, alone) = members(make), members(make)
    joint = JointOptimizer(joined)
    schedules = [ExponentialLR(optimizer, 0.9) for optimizer in (joined[0], alone[0])]
    for step in range(5):
        gradients_(ours, step)
        gradients_(theirs, step)
        assert joint.step() == {}
        for optimizer in alone:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    for one, other in zip(joined, alone, strict=True):
        a, b = one.state_dict(), other.state_dict()
        assert a["param_groups"] == b["param_groups"]
        torch.testing.assert_close(a["state"], b["state"], rtol=0, atol=0)
    return joint


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_states_are_those_of_each(name: str) -> None:
    joint = assert_same([OPTIMIZERS[name]] * 3)
    assert (joint._joint is None) == (name == "sgd"), "without a state, nothing says whether it will have one"


def test_different_optimizers_are_stepped_one_by_one() -> None:
    assert assert_same([OPTIMIZERS["adam"], OPTIMIZERS["adamw"]])._joint is None


def test_a_step_that_fails_is_of_its_optimizer() -> None:
    networks, optimizers = members([OPTIMIZERS["adam"]] * 2)
    gradients_(networks, 0)
    optimizers[1].param_groups[0]["fused"] = "no"
    optimizers[1].param_groups[0]["lr"] = torch.ones(2)
    failed = JointOptimizer(optimizers).step()
    assert list(failed) == [1]
