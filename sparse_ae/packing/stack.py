"""A stack: objectives of one program whose tensors are slices of common ones."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_ae.packing.program import program
from sparse_ae.sparsity import Loss
from sparse_ae.training.objective import Objective


class Stack:
    """R objectives that take their training steps together.

    Their parameters and buffers become views of the stack's own, ``(R, ...)``: what changes one in place changes the
    other. So each member is still an objective of its own, to be validated, saved or restored between two steps. With
    an optimizer that treats each number by itself, such as Adam, it ends as if trained alone, up to rounding. What
    makes new tensors, such as ``.to()``, ends the stack.

    >>> from sparse_ae.models import MLP, SparseAutoencoder
    >>> from sparse_ae.sparsity import L1
    >>> members = [Objective(SparseAutoencoder(MLP(16), L1(coefficient=c))) for c in (0.01, 1.0)]
    >>> stack = Stack(members)
    >>> stack.whole(torch.rand(8, 16), torch.rand(8, 16)).loss.shape
    torch.Size([2])
    """

    def __init__(self, members: Sequence[Objective]) -> None:
        """Raises ``ValueError`` unless all ``members`` are one program, on one device."""
        first = members[0]
        if any(program(member) != program(first) for member in members):
            raise ValueError("members of a stack are of one program")
        self.members = list(members)
        self.whole = copy.deepcopy(first)
        """Objective with the tensors of all members, whose loss is ``(R,)``."""
        for parts in zip(self.whole.modules(), *(member.modules() for member in members), strict=True):
            _stack_parameters(*parts)
            _stack_buffers(*parts)
        own = [list(member.parameters()) for member in self.members]
        self._parameters = list(zip(self.whole.parameters(), zip(*own, strict=True), strict=True))
        self.join_schedules_()

    @property
    def is_whole(self) -> bool:
        """True if the members' tensors still are views, of one program."""
        wholes = [*self.whole.parameters(), *self.whole.buffers()]
        of_members = [[*member.parameters(), *member.buffers()] for member in self.members]
        return all(
            own.data_ptr() == part.data_ptr()
            for whole, *owns in zip(wholes, *of_members, strict=True)
            for own, part in zip(owns, whole.detach(), strict=True)
        )

    def train_step_(self, optimizer: Optimizer, x: Tensor, *, step: int, total_steps: float) -> Loss:
        """Take one training step of every member, with an ``optimizer`` of ``whole``'s parameters.

        ``x`` is ``(B, D)`` if all members see the same samples, else ``(R, B, D)``. See ``Objective.train_step_``.
        """
        for member in self.members:
            member.on_step_start_(step, total_steps)
        self.join_schedules_()
        loss: Loss = self.whole(x, x)
        optimizer.zero_grad()
        loss.loss.sum().backward()
        self.whole.on_backward_end_(loss)
        self.whole.on_before_optimizer_step_()
        optimizer.step()
        self.whole.on_step_end_()
        return loss

    def join_schedules_(self) -> None:
        """Take over what ``on_step_start_`` of each member decided."""
        self.whole.dead.join_([member.dead for member in self.members])

    def share_gradients(self) -> None:
        """Let the gradients of members be views of those of ``whole``."""
        for stacked, own in self._parameters:
            parts: Sequence[Tensor | None] = [None] * len(own) if stacked.grad is None else stacked.grad.unbind()
            for parameter, gradient in zip(own, parts, strict=True):
                parameter.grad = gradient


def _stack_parameters(whole: nn.Module, *members: nn.Module) -> None:
    for name, parameter in whole._parameters.items():
        if parameter is None:
            continue
        own = [member.get_parameter(name) for member in members]
        stacked = nn.Parameter(torch.stack([p.detach() for p in own]), requires_grad=parameter.requires_grad)
        whole._parameters[name] = stacked
        for p, part in zip(own, stacked.detach(), strict=True):
            p.data = part


def _stack_buffers(whole: nn.Module, *members: nn.Module) -> None:
    for name, buffer in whole._buffers.items():
        if buffer is None:
            continue
        stacked = torch.stack([member.get_buffer(name) for member in members])
        whole._buffers[name] = stacked
        for member, part in zip(members, stacked, strict=True):
            member._buffers[name] = part
