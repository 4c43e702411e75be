"""k-sparse autoencoder: a linear code cut to its k largest entries, with k annealed."""

import math
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, as_cell, keep_largest
from sparse_ae.sparsity.base import Sparsity, check_units, whole_units


class KSparse(Sparsity):
    """z = pre where it is among the k largest of its sample, else 0; no rectification.

    Exactly k are kept, of equal ones too. To keep units alive at the start, k falls linearly from ``anneal_from`` * k
    to k over the first ``anneal_share`` of training; with 0 it is k throughout. ``activate`` keeps ``alpha`` * k, which
    the source found to classify better.
    Source: Makhzani and Frey, "k-sparse autoencoders", arXiv 1312.5663, with tied weights (``model.tied=true``).

    >>> KSparse(k=2, latent_dim=4).activate(torch.tensor([[0.1, -0.2, 0.3, -0.4]]))
    tensor([[0.1000, 0.0000, 0.3000, 0.0000]])
    """

    k_now: Tensor

    def __init__(
        self,
        *,
        k: int = 32,
        alpha: Annotated[float, Field(ge=1)] = 1.0,
        anneal_from: Annotated[float, Field(ge=1)] = 4.0,
        anneal_share: Annotated[float, Field(ge=0, le=1)] = 0.5,
        reduction: Reduction = "mean",
        latent_dim: PositiveInt = 128,
    ) -> None:
        super().__init__({}, latent_dim=latent_dim, reduction=reduction)
        self.k = check_units("k", k, latent_dim)
        self.k_encode = min(latent_dim, round(alpha * k))
        self.k_start = min(latent_dim, round(anneal_from * k)) if anneal_share else k
        self.anneal_share = anneal_share
        self.register_buffer("k_now", torch.tensor(self.k_start))

    def activate(self, pre: Tensor) -> Tensor:
        return keep_largest(pre, self.k_encode)

    def activate_batch(self, pre: Tensor) -> Tensor:
        kept, index = pre.topk(self.k_start, dim=-1)
        rank = torch.arange(self.k_start, device=pre.device)
        return torch.zeros_like(pre).scatter(-1, index, torch.where(rank < as_cell(self.k_now), kept, 0.0))

    @property
    def needs_an_end(self) -> bool:
        return self.k_start > self.k

    @torch.no_grad()
    def on_step_start_(self, step: int, total_steps: float) -> None:
        """k(t) = k_start + (k - k_start) min(1, t / (anneal_share * T)), rounded."""
        if not self.needs_an_end:
            return
        if math.isinf(total_steps):
            reason = "k is annealed over a share of training, which needs an end"
            raise ConfigError("trainer.max_epochs", -1, reason, "a number of epochs")
        progress = min(1.0, step / max(1.0, self.anneal_share * total_steps))
        self.k_now.fill_(round(self.k_start + (self.k - self.k_start) * progress))

    @classmethod
    def arguments_for(cls, l0: float, latent_dim: int) -> dict[str, Any]:
        return {"k": whole_units(l0, latent_dim), "alpha": 1.0}
