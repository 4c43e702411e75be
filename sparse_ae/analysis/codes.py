"""Codes of a sample, of which only those that are not 0 are stored."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sparse_ae.coders.omp import SparseCodes
from sparse_ae.functional import blocks, blockwise

MOST_CODES = 3 * 2**24
"""Largest number of codes != 0 that analyses store, of a sample with more those of the first rows: 4 GB with all that
is made of them.
"""
_DENSE_FROM = 0.15
"""Share of codes != 0 from which a dense product is faster, as for ``models.sparse_products``."""


class Codes:
    """Codes ``(B, N)`` of B samples, float32 on the CPU. Dense parts of it hold at most ``functional.BLOCK`` values.

    Stored are the values != 0, by sample and, once that is asked for, by unit as well: 16 bytes each. An analysis reads
    all of them as if they were dense, in blocks, or as SciPy's arrays ``by_sample`` and ``by_unit``. ``T`` has units
    for samples; ``@`` is the matrix product.

    >>> codes = Codes.of([torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[0.0, 3.0, 0.0]])])
    >>> codes.shape, codes.values
    ((2, 3), tensor([ 2., -1.,  3.]))
    >>> codes.per_unit(lambda z: z.abs().sum(dim=0))
    tensor([0., 5., 1.])
    """

    def __init__(self, by_sample: sparse.csr_array, transposed: "Codes | None" = None) -> None:
        self.by_sample = by_sample
        self._transposed = transposed

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> "Codes":
        """Codes from dense batches ``(b, N)``, one after the other; at least one."""
        parts = [sparse.csr_array(batch.float().cpu().numpy()) for batch in batches]
        return cls(sparse.vstack(parts, format="csr"))

    @classmethod
    def from_compact(cls, codes: SparseCodes, units: int) -> "Codes":
        """Codes of ``units`` units from those != 0 of each sample, as ``compact`` returns them."""
        there = codes.value != 0
        starts = np.append(0, there.sum(dim=1).cumsum(dim=0).numpy())
        shape = len(there), units
        return cls(sparse.csr_array((codes.value[there].numpy(), codes.atom[there].numpy(), starts), shape=shape))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of units."""
        samples, units = self.by_sample.shape
        return int(samples), int(units)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def T(self) -> "Codes":
        """Transpose ``(N, B)``, which is made once."""
        if self._transposed is None:
            self._transposed = Codes(self.by_sample.T.tocsr(), self)
        return self._transposed

    @property
    def by_unit(self) -> sparse.csr_array:
        """Transpose ``(N, B)`` in compressed rows, one for each unit."""
        return self.T.by_sample

    # Codes that are not 0.

    @property
    def values(self) -> Tensor:
        """Codes != 0, sample by sample, ``(M,)``."""
        return torch.from_numpy(self.by_sample.data)

    @property
    def unit(self) -> Tensor:
        """Unit of each of the ``values``, ``(M,)``."""
        return torch.from_numpy(self.by_sample.indices)

    @property
    def is_sparse(self) -> bool:
        """True if so few codes are != 0 that it pays to skip the others."""
        return len(self.values) < _DENSE_FROM * math.prod(self.shape)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest code."""
        ends = [np.zeros(1, np.float32)] if len(self.values) < math.prod(self.shape) else []
        every = np.concatenate([*ends, self.by_sample.data])
        return float(every.min()), float(every.max())

    @property
    def counts(self) -> Tensor:
        """Number of codes != 0 of each sample, ``(B,)``."""
        return torch.from_numpy(np.diff(self.by_sample.indptr)).long()

    @cached_property
    def sizes(self) -> sparse.csr_array:
        """|code| of the codes != 0 of each sample in ascending order, beside their units: not sorted by these."""
        size, unit, starts = np.abs(self.by_sample.data), self.by_sample.indices.copy(), self.by_sample.indptr
        for start, end in pairwise(starts.tolist()):
            order = size[start:end].argsort(kind="stable")
            size[start:end], unit[start:end] = size[start:end][order], unit[start:end][order]
        return sparse.csr_array((size, unit, starts), shape=self.shape)

    def compact(self) -> SparseCodes:
        """Codes != 0 of each sample side by side, ``(B, k)`` with the largest number k; see ``SparseCodes``."""
        counts, (samples, _) = self.counts, self.shape
        place = torch.arange(int(counts.max()) if samples else 0).expand(samples, -1)
        there = place < counts[:, None]
        atom, value = torch.zeros(there.shape, dtype=torch.long), torch.zeros(there.shape)
        atom[there], value[there] = self.unit.long(), self.values
        return SparseCodes(atom, value)

    # Dense parts.

    def rows(self, index: Tensor | slice) -> Tensor:
        """Codes of some samples, dense ``(b, N)``."""
        return torch.from_numpy(self.by_sample[_of_numpy(index)].toarray())

    def units(self, index: Tensor | slice) -> Tensor:
        """Codes of some units, dense ``(B, n)``."""
        return self.T.rows(index).T

    def row_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """All samples, as many at a time as a block holds: their slice, and their codes ``(b, N)``."""
        for part in blocks(*self.shape):
            yield part, self.rows(part)

    def unit_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """All units, as many at a time as a block holds: their slice, and their codes ``(B, n)``."""
        for part, z in self.T.row_blocks():
            yield part, z.T

    # Everything, block by block.

    def per_sample(self, function: Callable[..., Tensor], *others: "Codes") -> Tensor:
        """``function`` of dense codes ``(b, N)``, and of ``others`` beside them, over all samples, ``(B, ...)``."""
        return blockwise(*self.shape, lambda part: function(*(codes.rows(part) for codes in (self, *others))))

    def per_unit(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """``function`` of dense codes ``(B, n)``, over all units, ``(N, ...)``."""
        return self.T.per_sample(lambda z: function(z.T))

    def take(self, index: Tensor) -> "Codes":
        """Codes of some samples, not dense."""
        return Codes(self.by_sample[_of_numpy(index)])

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The k largest codes of each unit, the largest first, and their samples: ``(N, k)`` each."""
        samples = torch.zeros(len(self.T), k, dtype=torch.long)
        values = torch.zeros(samples.shape)
        for part, z in self.T.row_blocks():
            values[part], samples[part] = z.topk(k, dim=1)
        return values, samples

    def __matmul__(self, other: Tensor) -> Tensor:
        """Product ``(B, D)`` with ``other (N, D)``, in the type of that."""
        if self.is_sparse:
            return torch.from_numpy(self.by_sample @ other.numpy())
        return self.per_sample(lambda z: z.to(other) @ other)


def _of_numpy(index: Tensor | slice) -> "slice | np.ndarray[tuple[int], np.dtype[np.int64]]":
    return index if isinstance(index, slice) else index.numpy()
