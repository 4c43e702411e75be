"""Settings of a training process."""

import pytest
import torch

from sparse_ae.session.process import left_as_it_was
from sparse_ae.training.process import tune_process


@pytest.mark.parametrize(("rows", "inner", "columns"), [(128, 784, 256), (784, 128, 256), (1000, 784, 1280)])
def test_products_of_highest_precision_are_float32(rows: int, inner: int, columns: int) -> None:
    """Whichever library multiplies: products in bfloat16 are wrong by 2e-3 of their norm."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=random), torch.randn(inner, columns, generator=random)
    with left_as_it_was():
        tune_process(torch.get_num_threads(), "highest")
        product = a @ b
    exact = a.double() @ b.double()
    assert (product - exact).norm() < 1e-6 * exact.norm()
