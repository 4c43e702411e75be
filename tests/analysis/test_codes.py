"""Sparse codes against the dense tensors that they stand for."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from sparse_ae import functional
from sparse_ae.analysis.codes import Codes

DENSE = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.sampled_from([0, 0, 0, 0, 0.5, -0.5, 1, -2, 3]),
).map(torch.from_numpy)


@pytest.fixture(autouse=True, params=[1, 10, 2**22], ids=["a row", "some rows", "all rows"], scope="module")
def _blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Blocks of several sizes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "BLOCK", request.param)
        yield


@given(DENSE, st.integers(1, 7))
def test_dense_parts_are_those_of_the_batches(z: Tensor, size: int) -> None:
    codes = Codes.of(z.split(size))
    assert codes.shape == z.shape
    assert len(codes) == len(z)
    for blocks, dense, dim in ((codes.row_blocks(), z, 0), (codes.unit_blocks(), z, 1)):
        parts = list(blocks)
        assert torch.equal(torch.cat([block for _, block in parts], dim=dim), dense)
        assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts[:-1])]
        assert all(block.shape[dim] <= max(functional.BLOCK // dense.shape[1 - dim], 1) for _, block in parts)
    some, others = torch.arange(0, len(z), 2), torch.arange(z.shape[1]).flip(0)
    assert torch.equal(codes.rows(some), z[some])
    assert torch.equal(codes.rows(slice(1, 3)), z[1:3])
    assert torch.equal(codes.units(others), z[:, others])
    assert torch.equal(codes.take(some).rows(slice(None)), z[some])
    assert torch.equal(codes.T.rows(slice(None)), z.T)
    assert codes.T.T is codes


@given(DENSE)
def test_statistics_are_those_of_the_dense_codes(z: Tensor) -> None:
    codes = Codes.of([z])
    assert torch.equal(codes.values, z[z != 0])
    assert torch.equal(codes.unit, z.nonzero()[:, 1].int())
    assert codes.range == (z.min(), z.max())
    assert torch.equal(codes.counts, (z != 0).sum(dim=1))
    assert torch.equal(codes.per_sample(lambda part: part.abs().sum(dim=1)), z.abs().sum(dim=1))
    assert torch.equal(codes.per_unit(lambda part: part.amax(dim=0)), z.amax(dim=0))
    double = Codes.of([2 * z])
    assert torch.equal(codes.per_sample(lambda a, b: (b - a).sum(dim=1), double), z.sum(dim=1))
    for row, dense in enumerate(z.numpy()):
        part = slice(*codes.sizes.indptr[row : row + 2])
        assert codes.sizes.data[part].tolist() == sorted(abs(dense[dense != 0]))
        assert abs(dense)[codes.sizes.indices[part]].tolist() == codes.sizes.data[part].tolist()


@given(DENSE, st.sampled_from([torch.float32, torch.float64]))
def test_products_are_those_of_the_dense_codes(z: Tensor, dtype: torch.dtype) -> None:
    codes, atoms = Codes.of([z]), torch.randn(z.shape[1], 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    product = codes @ atoms
    assert product.dtype == dtype
    torch.testing.assert_close(product, z.to(dtype) @ atoms)


@given(DENSE, st.data())
def test_the_largest_codes_of_each_unit(z: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(z)))
    values, samples = Codes.of([z]).top(k)
    assert torch.equal(values, z.sort(dim=0, descending=True).values[:k].T)
    assert torch.equal(z.T.gather(1, samples), values)
    assert all(len(set(row)) == k for row in samples.tolist())


@given(DENSE)
def test_compact_codes_are_the_same_codes(z: Tensor) -> None:
    codes = Codes.of([z])
    compact = codes.compact()
    assert compact.value.shape[1] == (z != 0).sum(dim=1).max()
    assert torch.equal(compact.dense(z.shape[1]), z)
    assert torch.equal(Codes.from_compact(compact, z.shape[1]).rows(slice(None)), z)
