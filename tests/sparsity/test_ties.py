"""Equal pre-activations: as many are kept as a method promises, none smaller than one left out, always the same."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sparse_ae.models import Linear, SparseAutoencoder
from sparse_ae.sparsity import WTA, BatchTopK, KSparse, Matryoshka, Sparsity, TopK
from sparse_ae.training.objective import Objective
from tests.helpers import mnist

few_values = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(-2, 3))


def _is_expected(z: np.ndarray, pre: np.ndarray, size: np.ndarray, kept: int) -> bool:
    """True if ``z`` is ``pre`` at ``kept`` places of each column, those of the largest ``size``, and 0 elsewhere."""
    for code, value, by in zip(z.T, pre.T, size.T, strict=True):
        chosen = code != 0
        largest = sorted(by, reverse=True)[:kept]
        if not (code[chosen] == value[chosen]).all() or sorted(by[chosen]) != sorted(v for v in largest if v != 0):
            return False
    return True


def _codes(activate: Callable[[torch.Tensor], torch.Tensor], pre: np.ndarray) -> np.ndarray:
    """Codes, which are the same each time and wherever the numbers lie in memory."""
    z = activate(torch.from_numpy(pre))
    assert torch.equal(activate(torch.from_numpy(np.asfortranarray(pre.copy()))), z)
    return z.numpy()


@given(few_values, st.data())
def test_top_k_of_each_sample(pre: np.ndarray, data: st.DataObject) -> None:
    n = pre.shape[1]
    k = data.draw(st.integers(1, n))
    rectified = pre.clip(0)
    assert _is_expected(_codes(TopK(k=k, latent_dim=n).activate, pre).T, pre.T, rectified.T, k)
    assert _is_expected(_codes(TopK(k=k, signed=True, latent_dim=n).activate, pre).T, pre.T, np.abs(pre).T, k)


@given(few_values, st.data())
def test_k_sparse_while_k_is_annealed(pre: np.ndarray, data: st.DataObject) -> None:
    n = pre.shape[1]
    method = KSparse(k=data.draw(st.integers(1, n)), anneal_from=3.0, alpha=2.0, latent_dim=n)
    method.on_step_start_(data.draw(st.integers(0, 10)), 10)
    for activate, kept in ((method.activate_batch, int(method.k_now)), (method.activate, method.k_encode)):
        assert _is_expected(_codes(activate, pre).T, pre.T, pre.T, kept)


@given(few_values, st.data())
def test_batch_top_k_of_the_batch(pre: np.ndarray, data: st.DataObject) -> None:
    n = pre.shape[1]
    k = data.draw(st.integers(1, n))
    methods: list[Sparsity] = [BatchTopK(k=k, latent_dim=n)]
    methods += [Matryoshka(k=k, widths=[1], latent_dim=n)] if n > 1 else []
    for method in methods:
        z = _codes(method.activate_batch, pre)
        assert _is_expected(z.reshape(-1, 1), pre.reshape(-1, 1), pre.clip(0).reshape(-1, 1), k * len(pre))


@given(few_values, st.integers(1, 100))
def test_winners_of_each_unit(pre: np.ndarray, percent: int) -> None:
    z = _codes(WTA(share=percent / 100, latent_dim=pre.shape[1]).activate_batch, pre)
    assert _is_expected(z, pre, pre.clip(0), math.ceil(percent * len(pre) / 100))


B, N, K = 12, 8, 3
COUPLED: list[tuple[Sparsity, int]] = [
    (BatchTopK(k=K, latent_dim=N), B * K),
    (Matryoshka(k=K, widths=[2, 4], latent_dim=N), B * K),
    (WTA(share=0.25, latent_dim=N), B // 4 * N),
    (TopK(k=K, latent_dim=N), B * K),
    (KSparse(k=K, anneal_from=1.0, latent_dim=N), B * K),
]


@pytest.mark.parametrize(("method", "expected"), COUPLED, ids=lambda value: type(value).__name__)
def test_repeated_and_blank_images(method: Sparsity, expected: int) -> None:
    """A step on one image, many times; then on blank ones, whose pre-activations are all 0."""
    torch.manual_seed(0)
    assert method.activate_batch(torch.ones(B, N)).count_nonzero() == expected
    network = Linear(input_dim=784, latent_dim=N, b_pre="zeros", start="random")
    objective = Objective(SparseAutoencoder(network, method))
    image = mnist().first("test", 1)
    with torch.no_grad():
        network.encoder_weight.abs_()  # every unit responds
    for x in (image.expand(B, -1), torch.zeros(B, 784)):
        objective.zero_grad()
        loss = objective(x, x)
        loss.loss.backward()
        objective.on_backward_end_(loss)
        assert loss.forward.z.count_nonzero() == (expected if x.any() else 0)
        assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())
        assert all(value.isfinite().all() for value in objective.buffers())
        alone = objective.model.encode(x)
        assert torch.equal(alone, alone[:1].expand(B, -1))  # equal images have equal codes
