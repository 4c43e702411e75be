"""Which units are dead: since how many training samples each has not fired."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_ae.models import SparseAutoencoder
from sparse_ae.sparsity import Decoder, Forward


class Moment(NamedTuple):
    """A point between two epochs, when weights may be worked on."""

    epoch: int
    """How many are done."""
    progress: float
    """The share of training that is done."""
    samples: Callable[[], Tensor]
    """Draws training samples ``(B, D)``."""
    generator: torch.Generator
    """Of random numbers, on the CPU: the same for the same run and epoch."""


class DeadUnits(nn.Module):
    """Follows when each unit last had a code != 0, and leaves dead ones alone.

    A unit is dead once it has not fired for ``window_epochs`` epochs of training samples. What brings dead units back
    is a subclass: a loss term of its own (``losses``), or something done to the weights between epochs (``revive_``).
    What follows training is in buffers; ``losses`` and ``observe_`` are vmap-safe, as long as ``some_dead``, which is
    one for all models, is true where any has dead units.
    """

    requires_atoms = False
    """Whether it works on a linear decoder's atoms alone."""

    samples_since_fired: Tensor
    window: Tensor
    revived: Tensor

    def __init__(self, *, window_epochs: PositiveFloat, latent_dim: PositiveInt) -> None:
        super().__init__()
        self.window_epochs = window_epochs
        self.register_buffer("samples_since_fired", torch.zeros(latent_dim, dtype=torch.int64))
        unknown = torch.tensor(torch.iinfo(torch.int64).max)
        self.register_buffer("window", unknown, persistent=False)  # of this run's epochs, whatever it starts from
        self.register_buffer("revived", torch.tensor(0))
        self.some_dead = True

    def begin_(self, samples_per_epoch: int) -> None:
        """Say how many training samples an epoch has, before the first step; until then no unit counts as dead."""
        self.window.fill_(max(1, round(self.window_epochs * samples_per_epoch)))

    def look_(self) -> None:
        """Note whether any unit is dead, for what is worth doing only then. This waits for the device, so it is done
        now and then, at steps that depend on nothing but their number; in a distributed run the processes agree first
        on when each unit last fired.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.samples_since_fired, op=torch.distributed.ReduceOp.MIN)
        self.some_dead = bool(self.dead.any())

    def get_extra_state(self) -> dict[str, Any]:
        """The last look goes into each checkpoint."""
        return {"some_dead": self.some_dead}

    def set_extra_state(self, state: Any) -> None:
        """Restore what ``get_extra_state`` saved."""
        self.some_dead = state["some_dead"]

    @property
    def dead(self) -> Tensor:
        """Boolean ``(N,)``."""
        return self.samples_since_fired >= self.window

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """The scalar buffer that weighs each term."""
        return {}

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        """Unweighted scalar terms, one for each coefficient."""
        return {}

    @torch.no_grad()
    def observe_(self, forward: Forward) -> None:
        """Follow a training batch. Units that fire again after they were dead are counted in ``revived``."""
        z = forward.z
        fired = z.abs().amax(dim=-2) != 0  # a third of the time of (z != 0).any()
        self.revived.add_((fired & self.dead).sum(dim=-1))
        self.samples_since_fired.add_(z.shape[-2]).masked_fill_(fired, 0)

    def revive_(self, model: SparseAutoencoder, optimizer: Optimizer, moment: Moment) -> int:
        """Work on the weights, between two epochs. Returns how many units were started anew."""
        return 0
