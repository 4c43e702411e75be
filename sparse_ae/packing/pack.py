"""A pack: runs in training that take their steps together wherever they are one program."""

import logging
from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from sparse_ae.packing.joint_optimizer import JointOptimizer
from sparse_ae.packing.program import program
from sparse_ae.packing.stack import Stack
from sparse_ae.training.loop import TrainingLoop
from sparse_ae.training.losses import loss_values
from sparse_ae.training.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

_ROWS, _CLOSE = 8, 1e-2


class Pack:
    """Takes the steps of several training loops.

    Each loop keeps its own batches, optimizer, learning rate and counters. The loss and its gradients are those of a
    stack.
    """

    def __init__(self) -> None:
        self._stacks: dict[tuple[TrainingLoop, ...], Stack] = {}
        self._unfit: set[Hashable] = set()

    def groups(self, loops: Sequence[TrainingLoop]) -> list[list[TrainingLoop]]:
        """Divide ``loops`` into those of one program that are at the same step; others are by themselves."""
        found: dict[Hashable, list[TrainingLoop]] = defaultdict(list)
        for loop in loops:
            own = program(loop.module.objective)
            alone = loop if own in self._unfit else None
            found[own, alone, type(loop.trainer.precision_plugin), loop.global_step, loop.batch_idx].append(loop)
        groups = [part for group in found.values() for part in self._stacked(group)]
        self._stacks = {names: stack for names, stack in self._stacks.items() if list(names) in groups}
        return groups

    def take_steps(self, group: Sequence[TrainingLoop]) -> dict[TrainingLoop, Exception]:
        """Take steps of several loops, one of ``groups``, until something is due or the update of one fails.

        Returns the exceptions of those whose update failed. Any other exception is raised, and is of all of them.
        """
        return _take_steps(self._stacks[tuple(group)], group)

    def _stacked(self, group: list[TrainingLoop]) -> list[list[TrainingLoop]]:
        """Make a stack of ``group``, unless there is one. Returns its loops one by one if they cannot be stacked."""
        stack = self._stacks.get(tuple(group))
        if len(group) == 1 or (stack is not None and stack.is_whole):
            return [group]
        stack = Stack([loop.module.objective for loop in group])
        if _is_right(stack, group):
            self._stacks[tuple(group)] = stack
            return [group]
        self._unfit.add(program(stack.members[0]))
        log.warning("a part of these runs is not written for a stack of models, so that each trains alone")
        return [[loop] for loop in group]


@torch.no_grad()
def _is_right(stack: Stack, group: Sequence[TrainingLoop]) -> bool:
    """True if the losses of ``stack`` are those of its members, on a few rows."""
    module, precision = group[0].module, group[0].trainer.precision_plugin
    x = module.data.first("train", _ROWS).to(next(module.parameters()))
    try:
        with precision.train_step_context():
            losses = stack.whole(x, x).loss
            alone = torch.stack([member(x, x).loss for member in stack.members])
    except Exception as error:  # whatever a part does with tensors that it does not expect
        if is_out_of_memory(error):
            raise
        return False
    return losses.shape == alone.shape and torch.allclose(losses, alone, rtol=_CLOSE, equal_nan=True)


def _take_steps(stack: Stack, loops: Sequence[TrainingLoop]) -> dict[TrainingLoop, Exception]:
    shares = len({loop.module.data.seed for loop in loops}) == 1
    whole, precision = stack.whole, loops[0].trainer.precision_plugin
    optimizer = JointOptimizer([loop.trainer.optimizers[0] for loop in loops])
    failed: dict[TrainingLoop, Exception] = {}
    while True:
        x, target = _batch(loops, shares)
        for loop in loops:
            loop.begin_step()
        stack.join_schedules_()
        with precision.train_step_context():
            loss = whole(x, target)
        values = loss_values(loss)
        for parameter in whole.parameters():
            parameter.grad = None
        loss.loss.sum().backward()
        whole.on_backward_end_(loss)
        stack.share_gradients()
        for member, loop in enumerate(loops):
            loop.module.note_losses(values[:, member])
            loop.look_at_gradients()
        whole.on_before_optimizer_step_()
        stack.share_gradients()
        for loop in loops:
            try:
                loop.clip_gradients()
            except Exception as error:
                failed[loop] = error
        failed |= {loops[member]: error for member, error in optimizer.step().items()}
        whole.on_step_end_()
        for loop in loops:
            loop.end_step()
        if failed or any(loop.is_due for loop in loops):
            return failed
        for loop in loops:
            loop.pass_on()


def _batch(loops: Sequence[TrainingLoop], shares: bool) -> tuple[Tensor, Tensor]:
    """Return the next batch that ``loops`` share ``(B, D)``, or those of each ``(R, B, D)``, and targets alike."""
    if shares:
        batch = loops[0].next_batch()
        for loop in loops[1:]:
            loop.leave_out_batch()
        return batch.x, batch.target
    batches = [loop.next_batch() for loop in loops]
    x = torch.stack([batch.x for batch in batches])
    are_inputs = all(batch.target is batch.x for batch in batches)
    return x, x if are_inputs else torch.stack([batch.target for batch in batches])
