"""Orthogonal matching pursuit as an encoder: units are chosen one by one, and the atoms learn from what is left."""

from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.coders.omp import Selection, SparseCodes, sparse_codes
from sparse_ae.config.checked import with_options_of
from sparse_ae.functional import as_row
from sparse_ae.models.linear_decoder import LinearDecoder
from sparse_ae.sparsity.base import check_units


@with_options_of(LinearDecoder)
class MatchingPursuit(LinearDecoder):
    """z = orthogonal matching pursuit of x - b_pre on the atoms, with at most ``k`` non-zeros;
    x_hat = z @ atoms + b_pre.

    Without encoder weights, and without a sparsity method: ``sparsity=none``. Codes are held fixed in the backward
    pass. They are a least squares fit on the atoms chosen, so that a change of theirs does not change the error to
    first order; only the choice, which has no gradient, is left out.

    - ``selection``: the next unit is the one most similar to the residual, ``correlation``, or the one that leaves the
      least error once all codes are refitted, ``error``.
    - ``signed``: codes may be negative, as those of ``coder=omp``. Else units that would be are left out at the end, so
      that a sample may have fewer than k.

    Further ``options`` are those of ``LinearDecoder``.
    Source: learning with codes held fixed, Olshausen and Field, Nature 1996; pursuit as an encoder, Costa et al., "From
    flat to hierarchical: extracting sparse representations with matching pursuit", arXiv 2506.03093, whose codes are
    not refitted.

    >>> network = MatchingPursuit(784, latent_dim=64, k=3)
    >>> (network.encode(torch.rand(5, 784)) > 0).sum(dim=1)
    tensor([3, 3, 3, 3, 3])
    """

    sets_sparsity = True

    def __init__(
        self,
        input_dim: PositiveInt,
        *,
        k: PositiveInt = 32,
        selection: Selection = "error",
        signed: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(input_dim, **options)
        self.k = check_units("k", k, self.latent_dim)
        self.selection: Selection = selection
        self.signed = signed

    def encode(self, x: Tensor) -> Tensor:
        centred = (x - as_row(self.b_pre)).detach()
        if self.atoms.dim() == 2:
            return self._pursue(centred.reshape(-1, self.input_dim), self.atoms).reshape(*x.shape[:-1], self.latent_dim)
        each = centred if centred.dim() == 3 else centred.expand(len(self.atoms), *centred.shape)
        return torch.stack([self._pursue(*pair) for pair in zip(each, self.atoms, strict=True)])

    def _pursue(self, centred: Tensor, atoms: Tensor) -> Tensor:
        codes: SparseCodes = sparse_codes(centred, atoms.detach(), self.k, self.selection, positive=not self.signed)
        return codes.dense(self.latent_dim).to(centred.dtype)
