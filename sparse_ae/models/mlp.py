"""Multi-layer perceptrons as encoder and decoder."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from sparse_ae.functional import blockwise
from sparse_ae.models.affine import Affine
from sparse_ae.models.network import Network


class MLP(Network):
    """Encoder D - hidden - N and decoder N - reversed hidden - D, with ReLU between layers.

    ``output``: ``sigmoid``, for data in [0, 1], or ``linear``. ``auto`` is ``sigmoid``; a run chooses by its data. With
    ``hidden_sizes=[]`` each side is one layer.

    >>> mlp = MLP(784)
    >>> [tuple(p.shape) for p in mlp.encoder.parameters()]
    [(256, 784), (256,), (128, 256), (128,)]
    """

    def __init__(
        self,
        input_dim: PositiveInt,
        *,
        latent_dim: PositiveInt = 128,
        hidden_sizes: list[PositiveInt] = [256],  # noqa: B006, only read
        output: Literal["auto", "sigmoid", "linear"] = "auto",
    ) -> None:
        super().__init__(input_dim, latent_dim)
        widths = [input_dim, *hidden_sizes, latent_dim]
        self.encoder = _perceptron(widths)
        self.output = output
        self.decoder = _perceptron(widths[::-1])
        if output != "linear":
            self.decoder.append(nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)  # type: ignore[no-any-return]

    def decode(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        return self.decoder(z)  # type: ignore[no-any-return]

    def decode_frozen(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        frozen = {name: parameter.detach() for name, parameter in self.decoder.named_parameters()}
        return functional_call(self.decoder, frozen, (z,))  # type: ignore[no-any-return]

    def decoder_norms(self) -> Tensor:
        return torch.linalg.vector_norm(self.decoder[0].weight, dim=0)  # type: ignore[no-any-return]

    @property
    def dictionary(self) -> Tensor:
        """decode(I) ``(N, D)``: each unit decoded alone at 1."""
        like = next(self.decoder.parameters())

        def decoded(part: slice) -> Tensor:
            one_hot = like.new_zeros(part.stop - part.start, self.latent_dim)
            one_hot.diagonal(part.start).fill_(1)
            return self.decode(one_hot)

        return blockwise(self.latent_dim, self.latent_dim, decoded)


def _perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [Affine(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
