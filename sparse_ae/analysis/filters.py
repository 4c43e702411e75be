"""What the units of a trained encoder look for in an image."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_ae.analysis.base import Subject
from sparse_ae.models import Linear, MLPEncoder, SparseAutoencoder

_JACOBIAN_IMAGES = 256
_UNITS_AT_ONCE = 64
"""Each has a gradient for each of these images."""


class Filters(NamedTuple):
    """What some units look for."""

    weight: Tensor
    """``(n, D)``; NaN for a unit that has none."""
    name: str
    """What they are."""


def encoder_filters(subject: Subject, units: Tensor) -> Filters | None:
    """Of ``units (n,)`` the rows of the linear layer that reads the image, W_e (the atoms, if tied); where a perceptron
    reads it, dz_i/dx, mean over some of the sample's images, evenly spread. None unless an autoencoder was trained.
    """
    if not isinstance(subject.coder, SparseAutoencoder):
        return None
    network = subject.coder.network
    if isinstance(network, Linear) and not isinstance(network, MLPEncoder):
        weight = network.atoms if network.encoder_weight is None else network.encoder_weight
        filters, name = weight.detach()[units.to(weight.device)], "rows of W_e"
    else:
        x = subject.sample.x
        spread = torch.linspace(0, len(x) - 1, min(_JACOBIAN_IMAGES, len(x))).long()
        filters = mean_jacobian(subject.coder.encode, x[spread.to(x.device)], units.to(x.device))
        name = f"mean dz_i/dx over {len(spread)} test images, crossed if 0"
    filters = filters.float().cpu()
    return Filters(filters.masked_fill((filters == 0).all(dim=1, keepdim=True), torch.nan), name)


def mean_jacobian(encode: Callable[[Tensor], Tensor], x: Tensor, units: Tensor) -> Tensor:
    """mean_b dz_bi/dx_b for the codes i in ``units (n,)`` of the images ``x (B, D)``, ``(n, D)``.

    Taken as d/ds mean_b z_bi(x_b + s) at s = 0, which is the same as long as no code depends on another image.
    """

    def mean_codes(shift: Tensor) -> Tensor:
        return encode(x + shift).mean(dim=0)[units]

    jacobian: Tensor = torch.func.jacrev(mean_codes, chunk_size=_UNITS_AT_ONCE)(torch.zeros_like(x[0]))
    return jacobian.detach()
