"""What the benchmarks of a GPU compare does the same: products of codes in all forms, steps of stacks and of vmap."""

import importlib
from functools import partial
from types import ModuleType

import pytest
import torch

from experiments.speed import gathered
from experiments.speed.gpu import stacks

pytestmark = pytest.mark.gpu
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=["gathered", "Triton"])
def products(request: pytest.FixtureRequest, device: str) -> ModuleType:
    """Products by places; Triton interprets them where they cannot be compiled."""
    if request.param == "gathered":
        return gathered
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        if device == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        return importlib.import_module("experiments.speed.gpu.kernels")


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")  # a default of Triton that will change
@pytest.mark.parametrize(("batch", "dim", "n", "k"), [(5, 7, 20, 3), (4, 300, 40, 8), (3, 256, 9, 9)])
def test_products_by_places(products: ModuleType, device: str, batch: int, dim: int, n: int, k: int) -> None:
    """They are those of the dense codes, with their gradients."""
    torch.manual_seed(0)
    values, units = gathered.codes(batch, n, k, device)
    x, downstream = torch.randn(2, batch, dim, device=device)
    atoms = torch.randn(n, dim, device=device, requires_grad=True)
    z = gathered.dense(values, units, n).requires_grad_()
    assert ((z != 0).sum(dim=1) == k).all()
    expected = z @ atoms
    for_z, for_atoms = torch.autograd.grad(expected, (z, atoms), downstream)
    values.requires_grad_()
    product = products.decode(values, units, atoms)
    close(product, expected)
    for_values, of_atoms = torch.autograd.grad(product, (values, atoms), downstream)
    close(for_values, for_z.gather(1, units))
    close(of_atoms, for_atoms)
    with torch.no_grad():
        close(products.outer(values, units, x, n), z.mT @ x)


def test_outer_products_in_parts(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    values, units = gathered.codes(10, 20, 3, device)
    x = torch.randn(10, 4, device=device)
    monkeypatch.setattr(gathered, "_VALUES", 3 * 4 * 4)
    torch.testing.assert_close(gathered.outer(values, units, x, 20), gathered.dense(values, units, 20).mT @ x)


def test_steps_of_a_stack_and_of_vmap(device: str) -> None:
    models, x = stacks.objectives(3, device), torch.rand(64, 784, device=device)
    ways = [stacks.stacked(models, x), stacks.mapped(models, x)]
    for step, _ in ways:
        for _ in range(3):
            step()
    (_, ours), (_, theirs) = ways
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)
