"""A pack: runs in training that take their steps together wherever they are one program."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from sparse_ae.packing.program import program
from sparse_ae.packing.stack import Stack
from sparse_ae.training.loop import TrainingLoop
from sparse_ae.training.losses import loss_values


class Pack:
    """Takes the steps of several training loops.

    Each loop keeps its own batches, optimizer, learning rate and counters. The loss and its gradients are those of a
    stack. Loops that are not of one program, or not at the same step, form several stacks; one by itself trains alone.
    """

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], Stack] = {}

    def take_steps(self, loops: Sequence[TrainingLoop]) -> None:
        """Take steps of all ``loops`` until something is due for one of each group."""
        groups: dict[Hashable, list[TrainingLoop]] = defaultdict(list)
        for loop in loops:
            precision = type(loop.trainer.precision_plugin)
            groups[program(loop.module.objective), precision, loop.global_step, loop.batch_idx].append(loop)
        stacks = {}
        for group in groups.values():
            if len(group) == 1:
                group[0].take_steps_alone()
                continue
            names = tuple(map(id, group))
            stack = self._stacks.get(names)
            if stack is None or not stack.is_whole:
                stack = Stack([loop.module.objective for loop in group])
            stacks[names] = stack
            _take_steps(stack, group)
        self._stacks = stacks


def _take_steps(stack: Stack, loops: Sequence[TrainingLoop]) -> None:
    """Take steps until something is due for one of ``loops``."""
    shares = len({loop.module.data.seed for loop in loops}) == 1
    whole, precision = stack.whole, loops[0].trainer.precision_plugin
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
            loop.update()
        whole.on_step_end_()
        for loop in loops:
            loop.end_step()
        if any(loop.is_due for loop in loops):
            return
        for loop in loops:
            loop.pass_on()


def _batch(loops: Sequence[TrainingLoop], shares: bool) -> tuple[Tensor, Tensor]:
    """The next batch that ``loops`` share ``(B, D)``, or those of each ``(R, B, D)``, and targets alike."""
    if shares:
        batch = loops[0].next_batch()
        for loop in loops[1:]:
            loop.leave_out_batch()
        return batch.x, batch.target
    batches = [loop.next_batch() for loop in loops]
    x = torch.stack([batch.x for batch in batches])
    are_inputs = all(batch.target is batch.x for batch in batches)
    return x, x if are_inputs else torch.stack([batch.target for batch in batches])
