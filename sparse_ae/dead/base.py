"""Detection of dead units, by the number of training samples since each unit fired."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_ae.models import SparseAutoencoder
from sparse_ae.sparsity import Decoder, Forward, Loss, Part, TrainingData

_LOOK_EVERY = 50
"""Interval between looks, in steps. Not the logging interval: logging must not change training."""


_FEWEST = 1000
"""Samples that a window has at least: in a few batches of small data many a living unit does not fire."""


class Moment(NamedTuple):
    """Point between two epochs, when weights may be changed."""

    epoch: int
    """Number of epochs done."""
    progress: float
    """Share of training done."""
    samples: Callable[[], Tensor]
    """Function that draws training samples ``(B, D)``."""
    generator: torch.Generator
    """Random generator on the CPU, in the same state for the same run and epoch."""


class DeadUnits(Part):
    """Counts the samples since each unit last had a code != 0, and leaves dead units alone.

    A unit is dead once it has not fired for ``window_epochs`` epochs of training samples. Subclasses bring dead units
    back, by a loss term (``losses``) or by a change of the weights between epochs (``on_epoch_start_``). ``losses`` is
    vmap-safe, as long as ``some_dead``, which is one for all models of a stack, is True where it is for any of them.
    """

    requires_atoms = False
    """True if it needs a linear decoder's atoms."""
    requires_pre = False
    """True if it needs pre-activations of units that do not fire."""

    samples_since_fired: Tensor
    window: Tensor
    revived: Tensor
    has_dead: Tensor

    def __init__(self, *, window_epochs: PositiveFloat = 1.0, latent_dim: PositiveInt = 128) -> None:
        super().__init__()
        self.window_epochs = window_epochs
        self.register_buffer("samples_since_fired", torch.zeros(latent_dim, dtype=torch.int64))
        unknown = torch.tensor(torch.iinfo(torch.int64).max)
        self.register_buffer("window", unknown, persistent=False)  # in this run's epochs, whatever it starts from
        self.register_buffer("revived", torch.tensor(0))
        self.register_buffer("has_dead", torch.tensor(True), persistent=False)
        self.some_dead = True

    def setup_(self, data: TrainingData) -> None:
        """Set the window; before, no unit counts as dead. It is at least 1,000 samples, or an epoch of fewer."""
        n = data.samples_per_epoch
        self.window.fill_(max(1, round(self.window_epochs * n), min(n, _FEWEST)))

    def on_step_start_(self, step: int, total_steps: float) -> None:
        if step % _LOOK_EVERY == 0:
            self.look_()

    @property
    def some_dead(self) -> bool:
        """True if the last look found a dead unit; the buffer ``has_dead`` says so of each model of a stack."""
        return self._some_dead

    @some_dead.setter
    def some_dead(self, value: bool) -> None:
        self._some_dead = value
        self.has_dead.fill_(value)

    def look_(self) -> None:
        """Cache whether any unit is dead in ``some_dead``.

        Synchronises with the device, hence called at every 50th step only.
        """
        self.agree_()
        self.some_dead = bool(self.dead.any())

    def agree_(self) -> None:
        """Let the ranks of a distributed run agree on when each unit last fired."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.samples_since_fired, op=torch.distributed.ReduceOp.MIN)

    def join_(self, members: Sequence["DeadUnits"]) -> None:
        """Take over, as that of a stack, what the last look of each of ``members`` found."""
        self._some_dead = any(member.some_dead for member in members)

    def get_extra_state(self) -> dict[str, Any]:
        """Result of the last look, saved with each checkpoint."""
        return {"some_dead": self.some_dead}

    def set_extra_state(self, state: Any) -> None:
        """Restore the result that ``get_extra_state`` saved."""
        self.some_dead = state["some_dead"]

    @property
    def dead(self) -> Tensor:
        """Boolean ``(N,)``, True for dead units."""
        return self.samples_since_fired >= self.window.unsqueeze(-1)

    @property
    def coefficients(self) -> dict[str, Tensor]:
        """Scalar buffers that weigh the terms, by name."""
        return {}

    def losses(self, forward: Forward, decoder: Decoder) -> dict[str, Tensor]:
        """Unweighted scalar terms, one for each coefficient."""
        return {}

    @torch.no_grad()
    def on_backward_end_(self, loss: Loss) -> None:
        """Count the batch. Units that fire again after they were dead are counted in ``revived``."""
        z = loss.forward.z
        fired = z.abs().amax(dim=-2) != 0  # a third of the time of (z != 0).any()
        self.revived.add_((fired & self.dead).sum(dim=-1))
        self.samples_since_fired.add_(z.shape[-2]).masked_fill_(fired, 0)

    def ease_(self, model: SparseAutoencoder, pre: Tensor) -> None:
        """Make it easier for dead units to fire, after each batch, which had the pre-activations ``pre (B, N)``."""

    def on_epoch_start_(self, model: SparseAutoencoder, optimizer: Optimizer, moment: Moment) -> int:
        """Change weights between two epochs. Returns the number of units that were re-initialised."""
        return 0


def silent_units(model: SparseAutoencoder, batches: Iterable[Tensor]) -> Tensor:
    """Boolean ``(N,)``, True for units whose code is 0 for all samples of ``batches``, coded as training codes them."""
    fired = next(model.parameters()).new_zeros(model.latent_dim, dtype=torch.bool)
    for x in batches:
        fired |= (model.encode_batch(x) != 0).any(dim=0)
    return ~fired


def mean_over_ranks(values: Tensor) -> Tensor:
    """``values``, averaged over the ranks of a distributed run."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
        values /= torch.distributed.get_world_size()
    return values


def broadcast_buffers(module: nn.Module) -> None:
    """Copy rank 0's buffers to all ranks of a distributed run.

    Otherwise ranks would re-initialise different units, and their weights diverge for good.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
