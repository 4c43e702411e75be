"""What every coder checks of its input: one line that names the argument, what was given and what is allowed."""

import torch
from torch import Tensor


def check_dictionary(atoms: Tensor) -> None:
    """Raises ``ValueError`` unless ``atoms`` is a ``(N, D)`` of finite atoms, none zero."""
    if atoms.ndim != 2 or not atoms.is_floating_point() or 0 in atoms.shape:
        raise ValueError(f"atoms: {_kind(atoms)} (allowed: floats (N, D), N and D at least 1)")
    _check_finite("atoms", atoms)
    zero = (atoms == 0).all(dim=1)
    if zero.any():
        raise ValueError(f"atoms: {int(zero.sum())} of {len(atoms)} are zero (allowed: none)")


def check_data(x: Tensor, atoms: Tensor | None = None, name: str = "x") -> None:
    """Raises ``ValueError`` unless ``x`` is a finite ``(B, D)`` with the D, dtype and device of ``atoms``."""
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"{name}: {_kind(x)} (allowed: floats (B, D))")
    if atoms is not None and x.shape[1] != atoms.shape[1]:
        raise ValueError(f"{name}: D={x.shape[1]} (allowed: D={atoms.shape[1]}, as the atoms have)")
    if atoms is not None and x.device != atoms.device:
        raise ValueError(f"{name}: on {x.device} (allowed: {atoms.device}, where the atoms are)")
    if atoms is not None and x.dtype != atoms.dtype:
        raise ValueError(f"{name}: {_dtype(x)} (allowed: {_dtype(atoms)}, as the atoms are)")
    _check_finite(name, x)


def check_count(name: str, value: int, largest: int | None = None) -> None:
    """Raises ``ValueError`` unless ``value`` is an int in 1 to ``largest``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (largest is not None and value > largest):
        raise ValueError(f"{name}={value} (allowed: " + (f"an int from 1 to {largest})" if largest else "an int >= 1)"))


def _check_finite(name: str, x: Tensor) -> None:
    if x.numel() and not torch.stack(x.aminmax()).isfinite().all():  # a tenth of what it takes to look at each
        raise ValueError(f"{name}: {int((~x.isfinite()).sum())} of {x.numel()} values are not finite (allowed: none)")


def _kind(x: Tensor) -> str:
    return f"{_dtype(x)} of shape {tuple(x.shape)}"


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
