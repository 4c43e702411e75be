"""Matryoshka: nested dictionaries, in which every prefix of the units reconstructs by itself."""

import torch
from pydantic import PositiveInt
from torch import Tensor

from sparse_ae.config.errors import ConfigError
from sparse_ae.functional import Reduction, reconstruction_error
from sparse_ae.sparsity.base import Decoder, Forward
from sparse_ae.sparsity.batch_topk import BatchTopK


class Matryoshka(BatchTopK):
    """``BatchTopK`` with loss = reconstruction + M * mean_m reconstruction from the first ``widths[m]`` units alone.

    That is M + 1 times the mean over all prefixes, the whole width among them. Early units become general, late ones
    may be specific. ``widths=None`` takes an eighth, a quarter and a half of the units.
    Source: Bussmann et al., "Learning multi-level features with matryoshka sparse autoencoders", arXiv 2503.17547.

    >>> Matryoshka(k=32, latent_dim=128).widths
    [16, 32, 64]
    """

    def __init__(
        self,
        *,
        k: int = 32,
        widths: list[PositiveInt] | None = None,
        reduction: Reduction = "mean",
        latent_dim: PositiveInt = 128,
    ) -> None:
        if widths is None:
            widths = sorted({latent_dim // part for part in (8, 4, 2)} - {0, latent_dim})
        if not widths or widths != sorted(set(widths)) or not all(width < latent_dim for width in widths):
            raise ConfigError(
                "widths", widths, "not nested prefixes", f"increasing, below model.latent_dim={latent_dim}"
            )
        super().__init__(k=k, reduction=reduction, latent_dim=latent_dim)
        self.add_term_("prefixes", len(widths))
        self.widths = widths

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        support = self.support(forward.pre, forward.z)
        prefixes = [decoder.decode_prefix(forward.z, width, support) for width in self.widths]
        errors = [reconstruction_error(x_hat, forward.target, self.reduction) for x_hat in prefixes]
        return {"prefixes": torch.stack(errors).mean(dim=0)}
