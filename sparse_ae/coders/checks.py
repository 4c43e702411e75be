"""Checks of tensors given to coders; options are checked by the annotations of constructors (``config.checked``)."""

import torch
from torch import Tensor

from sparse_ae.config.errors import ConfigError, UserError


def check_dictionary(dictionary: Tensor) -> None:
    """Raise ``UserError`` unless ``dictionary`` holds finite atoms ``(N, D)``, none of them zero."""
    _check_dense("dictionary", dictionary)
    if dictionary.ndim != 2 or not dictionary.is_floating_point() or 0 in dictionary.shape:
        raise UserError("dictionary", reason=_kind(dictionary), expected="floats (N, D), N and D at least 1")
    check_finite("dictionary", dictionary)
    zero = (dictionary == 0).all(dim=1)
    if zero.any():
        raise UserError("dictionary", reason=f"{int(zero.sum())} of {len(dictionary)} atoms are zero")


def as_floats(name: str, x: Tensor, weight: Tensor, expected: str, *, integers: bool = False) -> Tensor:
    """Return ``x`` in the type of ``weight``. Raises ``UserError`` unless it is dense, of floats and on its device.

    With ``integers``, whole numbers and booleans are taken too.
    """
    _check_dense(name, x)
    if not x.is_floating_point() and (x.is_complex() or not integers):
        raise UserError(name, reason=_dtype(x), expected=expected)
    _check_device(name, x, weight)
    return x.to(weight.dtype)


def check_data(x: Tensor, dictionary: Tensor | None = None, name: str = "x") -> None:
    """Raise ``UserError`` unless ``x (..., D)`` is finite, with the D, dtype and device of ``dictionary (N, D)``."""
    _check_dense(name, x)
    if x.ndim == 0 or not x.is_floating_point():
        raise UserError(name, reason=_kind(x), expected="floats (..., D)")
    if dictionary is not None:
        if x.shape[-1] != (dim := dictionary.shape[1]):
            raise UserError(name, reason=f"{x.shape[-1]} values per sample", expected=f"{dim}, as in the dictionary")
        _check_device(name, x, dictionary)
        if x.dtype != dictionary.dtype:
            raise UserError(name, reason=_dtype(x), expected=f"{_dtype(dictionary)}, as the dictionary")
    check_finite(name, x)


def check_samples(x: Tensor) -> None:
    """Raise ``UserError`` unless ``x`` holds finite samples ``(B, D)``, at least one."""
    _check_dense("x", x)
    if x.ndim != 2:
        raise UserError("x", reason=_kind(x), expected="floats (B, D)")
    if not len(x):
        raise UserError("x", reason="no samples", expected="at least 1")
    check_data(x)


def check_finite(name: str, x: Tensor) -> None:
    """Raise ``UserError`` for NaN and infinity in ``x``. Under ``torch.func`` and ``torch.compile``, check nothing."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():  # there are no values to look at
        return
    if x.numel() and not torch.stack(x.aminmax()).isfinite().all():  # ten times as fast as testing each value
        raise UserError(name, reason=f"{int((~x.isfinite()).sum())} of {x.numel()} values are not finite")


def check_nonzero(n_nonzero: int, latent_dim: int) -> None:
    """Raise ``ConfigError`` for more non-zeros per sample than atoms."""
    if n_nonzero > latent_dim:
        raise ConfigError("n_nonzero", n_nonzero, "more than there are atoms", f"1 to latent_dim={latent_dim}")


def check_atoms(latent_dim: int, samples: int) -> None:
    """Raise ``ConfigError`` for more atoms than ``samples`` that can become atoms."""
    if samples < latent_dim:
        raise ConfigError(
            "latent_dim", latent_dim, "more atoms than samples that differ from their mean", f"1 to {samples}"
        )


def _check_dense(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise UserError(name, reason=f"of type {type(x).__name__}", expected=f"a torch.Tensor: torch.as_tensor({name})")
    if x.layout is not torch.strided:
        raise UserError(name, reason=f"of layout {x.layout}", expected=f"a dense tensor: {name}.to_dense()")


def _check_device(name: str, x: Tensor, weight: Tensor) -> None:
    if x.device != weight.device:
        raise UserError(name, reason=f"on {x.device}", expected=f"{weight.device}, as the coder's weights")


def _kind(x: Tensor) -> str:
    return f"{_dtype(x)} of shape {tuple(x.shape)}"


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
