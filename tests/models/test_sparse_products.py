"""Products that skip zeros are the dense products, backwards too."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from sparse_ae.models import sparse_products
from sparse_ae.models.sparse_products import code_product, linear


def _sparse(rows: int, columns: int, kept: int) -> Tensor:
    """Rows with ``kept`` entries, but for an empty first and a full last one."""
    z = torch.randn(rows, columns, dtype=torch.float64)
    z = z * (z >= z.topk(kept, dim=1).values[:, -1:])
    z[0], z[-1] = 0, torch.randn(columns, dtype=torch.float64)
    return z


@pytest.fixture
def bags(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of all products that were made without their zeros."""
    made = []
    original = sparse_products._bags

    def counted(a: Tensor, b: Tensor, support: Tensor) -> Tensor:
        made.append((a.shape[0], b.shape[1]))
        return original(a, b, support)

    monkeypatch.setattr(sparse_products, "_bags", counted)
    return made


@pytest.mark.parametrize("kept", [0, 2, 30])
def test_codes_times_atoms(kept: int, bags: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    z = _sparse(20, 50, max(kept, 1)) if kept else torch.zeros(20, 50, dtype=torch.float64)
    z, atoms = z.requires_grad_(), torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    downstream = torch.randn(20, 7, dtype=torch.float64)
    product = code_product(z, atoms, z != 0)
    assert bool(bags) == (kept < 30)  # 30 of 50 are not sparse
    for_z, for_atoms = torch.autograd.grad(product, (z, atoms), downstream)
    torch.testing.assert_close(product, z @ atoms)
    torch.testing.assert_close(for_atoms, z.T @ downstream)
    everywhere = downstream @ atoms.T
    torch.testing.assert_close(for_z, everywhere if kept == 30 else everywhere * (z != 0))


def test_a_support_wider_than_the_codes_gets_gradients_there(bags: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    z, atoms = torch.zeros(4, 50, requires_grad=True), torch.randn(50, 7)
    support = torch.zeros(4, 50, dtype=torch.bool)
    support[1, 3] = support[2, 40] = True
    code_product(z, atoms, support).sum().backward()
    assert bags
    assert z.grad is not None
    torch.testing.assert_close(z.grad, support * atoms.sum(dim=1))


def test_the_backward_pass_of_a_linear_map(bags: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((20, 7), (50, 7), (50,)))
    downstream = _sparse(20, 50, 2)
    ours = torch.autograd.grad(linear(x, weight, bias), (x, weight, bias), downstream)
    assert bags == [(20, 7), (50, 7)]
    theirs = torch.autograd.grad(torch.nn.functional.linear(x, weight, bias), (x, weight, bias), downstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert not linear(x.detach(), weight.detach(), bias.detach()).requires_grad


def test_of_a_stack_of_models(bags: list[tuple[int, int]]) -> None:
    """Forwards and backwards as of each model alone; nothing of one gets into another."""
    torch.manual_seed(0)
    shapes = ((3, 20, 7), (3, 50, 7), (3, 50), (3, 50, 7))
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def code(x: Tensor, weight: Tensor, bias: Tensor, atoms: Tensor) -> Tensor:
        pre = linear(x, weight, bias)
        z = pre * (pre >= pre.topk(3, dim=-1).values[..., -1:])
        return code_product(z, atoms, z != 0)

    whole = code(*inputs)
    assert bags
    downstream = torch.randn_like(whole)
    gradients = torch.autograd.grad(whole, inputs, downstream)
    for model in range(3):
        own = [tensor[model].detach().requires_grad_() for tensor in inputs]
        alone = code(*own)
        torch.testing.assert_close(whole[model], alone)
        for ours, theirs in zip(gradients, torch.autograd.grad(alone, own, downstream[model]), strict=True):
            torch.testing.assert_close(ours[model], theirs)


def test_under_vmap_products_are_dense(bags: list[tuple[int, int]]) -> None:
    z, atoms = torch.zeros(3, 4, 50), torch.randn(3, 50, 7)
    product = vmap(lambda z, atoms: code_product(z, atoms, z != 0))(z, atoms)
    pre = vmap(linear)(torch.randn(3, 4, 7), torch.randn(3, 50, 7, requires_grad=True))
    assert product.shape == (3, 4, 7)
    assert pre.shape == (3, 4, 50)
    assert not bags
