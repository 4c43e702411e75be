"""Every declared trait of every ``conf/sparsity/*.yaml`` agrees with what the method does."""

from collections.abc import Callable

import pytest
import torch

from sparse_ae.config.build import build
from sparse_ae.models import MLP, Linear
from sparse_ae.sparsity import Forward, Loss, Sparsity, Traits
from tests.helpers import CONF, plain_config

METHODS = sorted(path.stem for path in (CONF / "sparsity").glob("*.yaml"))
OPTIONS = {"l1": [[], ["sparsity.atom_norm=true"]], "wta": [[], ["sparsity.encode=relu"]]}
OPTIONS |= {"jumprelu": [[], ["sparsity.l0_target=2"]]}
BATCH, UNITS, DIM = 40, 16, 6


def _loss(method: Sparsity, pre: torch.Tensor) -> Loss:
    x, zero = torch.zeros(len(pre), DIM), torch.zeros(())
    return Loss(zero, zero, {}, Forward(x, x, pre, method.activate_batch(pre), x))


def _steered(method: Sparsity, pre: torch.Tensor) -> bool:
    """A coefficient is the steered one or has a value of its own, and a target can be attached to it or to none."""
    return method.traits.steered is None or method.traits.steered in method.coefficients


def _needs_atoms(method: Sparsity, pre: torch.Tensor) -> bool:
    def fails_without() -> bool:
        try:
            method.losses(_loss(method, pre).forward, MLP(input_dim=DIM, latent_dim=UNITS))
        except TypeError:
            return True
        return False

    method.losses(_loss(method, pre).forward, Linear(input_dim=DIM, latent_dim=UNITS))
    return fails_without() == method.traits.needs_atoms


def _couples_samples(method: Sparsity, pre: torch.Tensor) -> bool:
    together, alone = method.activate_batch(pre), torch.cat([method.activate_batch(row) for row in pre.split(1)])
    return torch.allclose(together, alone) != method.traits.couples_samples


def _learns_threshold(method: Sparsity, pre: torch.Tensor) -> bool:
    before = method.activate(pre)
    method.on_backward_end_(_loss(method, pre))
    return torch.equal(method.activate(pre), before) != method.traits.learns_threshold


def _code_range(method: Sparsity, pre: torch.Tensor) -> bool:
    z = method.activate(1000 * pre)
    if method.traits.code_range is None:
        return float(z.detach().max()) > 100
    low, high = method.traits.code_range
    return float(z.min()) == pytest.approx(low) and float(z.max()) == pytest.approx(high)


CHECKS: dict[str, Callable[[Sparsity, torch.Tensor], bool]] = {
    "steered": _steered,
    "needs_atoms": _needs_atoms,
    "couples_samples": _couples_samples,
    "learns_threshold": _learns_threshold,
    "code_range": _code_range,
}


@pytest.mark.parametrize("trait", Traits._fields)
@pytest.mark.parametrize(("name", "options"), [(m, o) for m in METHODS for o in OPTIONS.get(m, [[]])], ids=str)
def test_a_trait_is_true(name: str, options: list[str], trait: str) -> None:
    spec = plain_config(f"sparsity={name}", *options)["sparsity"]
    if "k" in spec:
        spec["k"] = 3
    torch.manual_seed(0)
    method: Sparsity = build(spec, "sparsity", latent_dim=UNITS)
    assert CHECKS[trait](method, torch.randn(BATCH, UNITS))


@pytest.mark.parametrize("name", METHODS)
def test_a_larger_steered_coefficient_makes_codes_sparser(name: str) -> None:
    """A few hundred steps at two coefficients: fewer, or smaller, codes at the larger."""
    from sparse_ae.models import SparseAutoencoder
    from sparse_ae.training.objective import Objective

    sizes = []
    for coefficient in (0.0, 1.0):
        torch.manual_seed(0)
        spec = plain_config(f"sparsity={name}")["sparsity"]
        if "k" in spec:
            spec["k"] = 3
        method: Sparsity = build(spec, "sparsity", latent_dim=UNITS)
        if method.traits.steered is None:
            pytest.skip("no coefficient is steered")
        method.coefficients[method.traits.steered].fill_(coefficient)
        objective = Objective(SparseAutoencoder(Linear(input_dim=DIM, latent_dim=UNITS), method))
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
        x = torch.rand(200, DIM)
        for step in range(200):
            objective.train_step_(optimizer, x, step=step, total_steps=200)
        sizes.append(float((objective.model.encode(x) > 0.1).float().mean()))
    assert sizes[1] < sizes[0]
