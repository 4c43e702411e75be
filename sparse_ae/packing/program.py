"""Program of an objective: everything about it but the values of its tensors."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

_OF_MODULES = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def program(module: nn.Module) -> Hashable:
    """Classes, state other than tensors, and the tensors' shapes, types and devices, of ``module`` and its parts.

    Two objectives with the same one compute the same functions of their tensors, so that they can be stacked. What may
    differ between them, such as a coefficient, is therefore a buffer. Names with an underscore are bookkeeping between
    two steps, which is left out.

    >>> from sparse_ae.sparsity import KL
    >>> program(KL(rho=0.1)) == program(KL(rho=0.2, coefficient=3.0)), program(KL()) == program(KL(reduction="sum"))
    (True, False)
    """
    return tuple((name, _own(part)) for name, part in module.named_modules())


def _own(module: nn.Module) -> Hashable:
    tensors = {**module._parameters, **module._buffers}
    described = {
        name: None if t is None else (tuple(t.shape), t.dtype, t.device, t.requires_grad) for name, t in tensors.items()
    }
    other = {name: value for name, value in vars(module).items() if name not in _OF_MODULES and name[0] != "_"}
    return type(module), module.training, _frozen(described), _frozen(other)


def _frozen(value: Any) -> Hashable:
    """``value`` as one that can be compared and hashed; parts of the objective have their own place in it."""
    if isinstance(value, nn.Module):
        return repr(type(value))
    if isinstance(value, Tensor | np.ndarray):
        raise TypeError("an array that is no buffer cannot be stacked")
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), _frozen(own)) for key, own in value.items()))
    if isinstance(value, tuple | list):
        return tuple(_frozen(own) for own in value)
    shown: str = repr(value)
    return shown
