"""Steps of several optimizers in one call."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class JointOptimizer:
    """Steps ``optimizers`` together, each with its own state and learning rate, to the same bits as one by one.

    That saves the time that each call takes. It is for optimizers of PyTorch that treat each parameter by itself, which
    are all but LBFGS. Those of different classes, or with hooks, are stepped one by one. None may load a state while it
    is in use.

    >>> import torch
    >>> p, q = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    >>> joint = JointOptimizer([torch.optim.SGD([p], lr=1.0), torch.optim.SGD([q], lr=2.0)])
    >>> p.grad = q.grad = torch.ones(1)
    >>> joint.step()
    {}
    >>> p.item(), q.item()
    (-1.0, -2.0)
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers
        self._joint: Optimizer | None = None

    def step(self) -> dict[int, Exception]:
        """Take a step of each; the first one by one, after which all have their state.

        Returns the exceptions of steps taken one by one, by the number of the optimizer. Others are raised.
        """
        if self._joint is not None:
            self._joint.param_groups = self._groups()
            self._joint.step()
            return {}
        failed = {}
        for number, optimizer in enumerate(self._optimizers):
            try:
                optimizer.step()
            except Exception as error:
                failed[number] = error
        self._joint = self._joined()
        return failed

    def _joined(self) -> Optimizer | None:
        """Return an optimizer that shares the state of all; None if there is no such thing."""
        first = self._optimizers[0]
        if any(type(optimizer) is not type(first) or _has_hooks(optimizer) for optimizer in self._optimizers):
            return None
        joint = copy.copy(first)
        joint.state = defaultdict(dict)
        for optimizer in self._optimizers:
            with_gradient = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if any(p not in optimizer.state for p in with_gradient):  # it keeps none, and might begin to
                return None
            joint.state.update(optimizer.state)
        return joint

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters of all, those with equal options in one group."""
        together: dict[tuple[tuple[str, Any], ...], list[Tensor]] = {}
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                options = tuple((name, value) for name, value in group.items() if name != "params")
                together.setdefault(options, []).extend(group["params"])
        return [{**dict(options), "params": parameters} for options, parameters in together.items()]


def _has_hooks(optimizer: Optimizer) -> bool:
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
