"""Sparse autoencoder: a network and a sparsity method."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sparse_ae.coders.module import CoderModule
from sparse_ae.config.build import build
from sparse_ae.config.errors import ConfigError
from sparse_ae.models.network import Network
from sparse_ae.sparsity import NoSparsity
from sparse_ae.sparsity.base import Forward, Sparsity


class SparseAutoencoder(CoderModule):
    """x_hat = decode(z), z = activate(encode(x)). A ``Coder``.

    Raises ``ConfigError`` if the two parts do not go together: another number of units, a method that needs atoms with
    a network that has none, or a method that codes a batch together with a network that codes in several steps.

    >>> import torch
    >>> from sparse_ae.models import MLP
    >>> from sparse_ae.sparsity import L1
    >>> model = SparseAutoencoder(MLP(784), L1())
    >>> x = torch.rand(2, 784)
    >>> model.encode(x).shape, model.decode(model.encode(x)).shape
    (torch.Size([2, 128]), torch.Size([2, 784]))
    """

    def __init__(self, network: Network, sparsity: Sparsity) -> None:
        super().__init__(network.input_dim, network.latent_dim)
        _check_pair(network, sparsity)
        self.network = network
        self.sparsity = sparsity

    def forward(self, x: Tensor, target: Tensor) -> Forward:
        """Run a training batch ``(B, D)``, keeping all that the losses need."""
        pre, z = self._code(x, self.sparsity.activate_batch)
        support = self.sparsity.support(pre, z) if self.network.has_atoms else None  # no other decoder skips zeros
        return Forward(x, target, pre, z, self.network.decode(z, support))

    def encode_batch(self, x: Tensor) -> Tensor:
        """Code ``(B, N)`` of a batch as training codes it."""
        return self._code(x, self.sparsity.activate_batch)[1]

    def encode_rows(self, x: Tensor) -> Tensor:
        return self.network.refine(x, self._code(x, self.sparsity.activate)[1])

    def decode_rows(self, z: Tensor) -> Tensor:
        return self.network.decode(z)

    @property
    def dictionary(self) -> Tensor:
        return self.scale.rotate_back(self.network.dictionary)

    @property
    def learning_rates(self) -> dict[str, float]:
        """Multiples of the optimizer's learning rate, by parameter name; 1 for all others."""
        parts = {"network": self.network.learning_rates, "sparsity": self.sparsity.learning_rates}
        return {f"{part}.{name}": rate for part, rates in parts.items() for name, rate in rates.items()}

    def _code(self, x: Tensor, activate: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Pre-activations and codes, ``(B, N)`` each."""
        pre = self.network.encode(x)
        z = activate(pre)
        for correct in self.network.corrections(x):
            pre = correct(z, self.sparsity.support(pre, z))
            z = activate(pre)
        return pre, z


def build_autoencoder(network: Mapping[str, Any], sparsity: Mapping[str, Any], *, input_dim: int) -> SparseAutoencoder:
    """Build the autoencoder of a ``model`` and a ``sparsity`` spec, initialised from torch's global generator."""
    net: Network = build(network, "model", input_dim=input_dim)
    return SparseAutoencoder(net, build(sparsity, "sparsity", latent_dim=net.latent_dim))


def _check_pair(network: Network, sparsity: Sparsity) -> None:
    method, net, traits = type(sparsity).__name__, type(network).__name__, sparsity.traits
    if sparsity.latent_dim != network.latent_dim:
        reason = f"{method} has another number of units than {net}"
        raise ConfigError("latent_dim", sparsity.latent_dim, reason, f"{network.latent_dim}")
    if traits.needs_atoms and not network.has_atoms:
        reason = f"{method} as configured weighs codes by the norms of a linear decoder's atoms, and {net} has none"
        raise ConfigError("sparsity", reason=reason, expected="model=linear")
    if traits.code_range is not None and network.refine_steps:
        reason = f"would take {method}'s codes out of their range"
        raise ConfigError("model.refine_steps", network.refine_steps, reason, "0")
    if network.sets_sparsity and not isinstance(sparsity, NoSparsity):
        reason = f"{net} chooses its active units itself, and {method} has nothing to do"
        raise ConfigError("sparsity", reason=reason, expected="sparsity=none")
    if traits.couples_samples and network.codes_in_steps:
        reason = f"{method} learns one threshold for coding a sample alone, and {net} codes in several steps"
        raise ConfigError("sparsity", reason=reason, expected="model=linear, or sparsity=topk")
