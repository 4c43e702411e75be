"""The sparse autoencoder: a network and a sparsity method joined."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.models.network import Activation, Network
from sparse_ae.sparsity.base import Forward, Sparsity


class SparseAutoencoder(nn.Module):
    """x_hat = decode(z), z = activate(encoder(x)). Satisfies ``Coder``.

    Raises ``ValueError`` if the sparsity method needs atoms and the network has none, or if the method codes a batch
    together and the network codes it in several steps.
    """

    def __init__(self, network: Network, sparsity: Sparsity) -> None:
        super().__init__()
        if sparsity.requires_atoms and not network.has_atoms:
            raise ValueError(
                f"sparsity: {type(sparsity).__name__} as configured weighs codes by the norms of a linear decoder's "
                f"atoms, and {type(network).__name__} has none (allowed: model=linear)"
            )
        if sparsity.code_range is not None and network.refine_steps:
            raise ValueError(
                f"model.refine_steps={network.refine_steps}: would take {type(sparsity).__name__}'s codes out of their "
                "range (allowed: 0)"
            )
        if sparsity.couples_samples and network.codes_in_steps:
            raise ValueError(
                f"sparsity: {type(sparsity).__name__} learns one threshold for coding a sample alone, and "
                f"{type(network).__name__} codes in several steps (allowed: model=linear, or sparsity=topk)"
            )
        self.network = network
        self.sparsity = sparsity

    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to codes ``(B, N)``."""
        activation = Activation(self.sparsity.activate, self.sparsity.support)
        return self.network.refine(x, activation.codes(self.network.encode(x, activation)))

    def decode(self, z: Tensor) -> Tensor:
        """Codes ``(B, N)`` to reconstructions ``(B, D)``."""
        return self.network.decode(z)

    @property
    def dictionary(self) -> Tensor:
        """Atoms ``(N, D)``."""
        return self.network.dictionary

    @property
    def learning_rates(self) -> dict[str, float]:
        """Parameters, by name, that learn at so many times the optimizer's rate."""
        parts = {"network": self.network.learning_rates, "sparsity": self.sparsity.learning_rates}
        return {f"{part}.{name}": rate for part, rates in parts.items() for name, rate in rates.items()}

    def forward(self, x: Tensor, target: Tensor) -> Forward:
        """One pass of a training batch, everything in it kept for the losses."""
        activation = Activation(self.sparsity.activate_batch, self.sparsity.support)
        pre = self.network.encode(x, activation)
        z = activation.codes(pre)
        support = activation.support(pre, z) if self.network.has_atoms else None  # no other decoder skips zeros
        return Forward(x, target, pre, z, self.network.decode(z, support))


def build_autoencoder(network: Mapping[str, Any], sparsity: Mapping[str, Any], *, input_dim: int) -> SparseAutoencoder:
    """The autoencoder of a ``model`` and a ``sparsity`` spec, freshly initialised from torch's global RNG."""
    try:
        net: Network = build(network, "model", input_dim=input_dim)
        return SparseAutoencoder(net, build(sparsity, "sparsity", latent_dim=net.latent_dim))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
