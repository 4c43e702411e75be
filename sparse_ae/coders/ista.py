"""L1 coding on a dictionary by iterative shrinkage: ISTA, and FISTA, its accelerated form."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_ae.coders.base import DictionaryCoder
from sparse_ae.coders.checks import check_count, check_data, check_dictionary
from sparse_ae.coders.preprocessing import scale


class L1Coder(DictionaryCoder):
    """z = argmin_z 1/2 |x - mean - z A|^2 + penalty |z|_1 on the ``dictionary A``, by ``fista``, or without
    ``momentum`` by ``ista``. The rest, and what is raised: see there.
    """

    def __init__(
        self,
        dictionary: Tensor,
        penalty: float,
        steps: int = 1000,
        tolerance: float = 1e-5,
        positive: bool = False,
        momentum: bool = True,
        mean: Tensor | None = None,
    ) -> None:
        super().__init__(dictionary, mean)
        _check(dictionary, penalty, steps, tolerance)
        self.penalty = penalty
        self.steps = steps
        self.tolerance = tolerance
        self.positive = positive
        self.momentum = momentum

    @property
    def arguments(self) -> dict[str, Any]:
        names = ("penalty", "steps", "tolerance", "positive", "momentum")
        return {name: getattr(self, name) for name in names}

    def encode(self, x: Tensor) -> Tensor:
        """Data ``(B, D)`` to codes ``(B, N)``."""
        check_data(x, self.dictionary)
        shrink = fista if self.momentum else ista
        return shrink(x - self.mean, self.dictionary, self.penalty, self.steps, self.tolerance, self.positive)


def l1_objective(z: Tensor, x: Tensor, atoms: Tensor, penalty: float) -> Tensor:
    """1/2 |x_b - z_b A|^2 + penalty |z_b|_1 of each sample, ``(B,)``."""
    error: Tensor = (x - z @ atoms).square().sum(dim=1)
    return error / 2 + penalty * z.abs().sum(dim=1)


def ista(
    x: Tensor,
    atoms: Tensor,
    penalty: float,
    steps: int = 1000,
    tolerance: float = 1e-5,
    positive: bool = False,
) -> Tensor:
    """z <- shrink(z - (z A - x) A^T / L, penalty / L) from 0, L the largest eigenvalue of A A^T; codes ``(B, N)``.

    ``x (B, D)``, ``atoms A (N, D)``. shrink(v, t) = sign(v) max(|v| - t, 0), or max(v - t, 0) for ``positive`` codes.
    The objective (``l1_objective``) falls at every step. Ends after ``steps``, or where no code of any sample moves by
    more than ``tolerance`` times the largest. Computed in at least float32.

    Raises ``ValueError`` unless penalty >= 0, steps >= 1, tolerance >= 0, x and atoms are finite and of the same D,
    and no atom is zero.

    Source: I. Daubechies, M. Defrise, C. De Mol, "An iterative thresholding algorithm for linear inverse problems with
    a sparsity constraint", CPAM 2004.
    """
    return _shrink_repeatedly(x, atoms, penalty, steps, tolerance, positive, momentum=False)


def fista(
    x: Tensor,
    atoms: Tensor,
    penalty: float,
    steps: int = 1000,
    tolerance: float = 1e-5,
    positive: bool = False,
) -> Tensor:
    """``ista`` with Nesterov's momentum: its error falls as 1/steps^2, not 1/steps, though not at every step.

    Each sample's momentum starts anew where its step goes against it (B. O'Donoghue, E. Candes, "Adaptive restart for
    accelerated gradient schemes", 2015), which ends the ripples around the minimum.

    Source: A. Beck, M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems", SIAM
    J. Imaging Sciences 2009.
    """
    return _shrink_repeatedly(x, atoms, penalty, steps, tolerance, positive, momentum=True)


def _check(atoms: Tensor, penalty: float, steps: int, tolerance: float) -> None:
    check_dictionary(atoms)
    check_count("steps", steps)
    for name, value in (("penalty", penalty), ("tolerance", tolerance)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}={value} (allowed: finite and >= 0)")


def _shrink_repeatedly(
    x: Tensor, atoms: Tensor, penalty: float, steps: int, tolerance: float, positive: bool, *, momentum: bool
) -> Tensor:
    _check(atoms, penalty, steps, tolerance)
    check_data(x, atoms)
    dtype = torch.promote_types(x.dtype, torch.float32)
    if not len(x):
        return x.new_zeros(0, len(atoms), dtype=dtype)
    x, atoms = x.to(dtype), atoms.to(dtype)
    # With x = s x', A = r A' and z = s/r z' the objective is s^2 times that of x', A' and penalty / (s r).
    of_x, of_atoms = scale(x), scale(atoms)
    z = _shrink_scaled(x / of_x, atoms / of_atoms, penalty / of_x / of_atoms, steps, tolerance, positive, momentum)
    return z * of_x / of_atoms


def _shrink_scaled(
    x: Tensor, atoms: Tensor, penalty: float, steps: int, tolerance: float, positive: bool, momentum: bool
) -> Tensor:
    # Rounding may have found the eigenvalue a little low, and a longer step than 1/L need not lower the objective.
    step = 1 / (torch.linalg.matrix_norm(atoms.double(), ord=2).square() * (1 + 1e-6))
    gram, target = (atoms @ atoms.T) * step.to(x), (x @ atoms.T) * step.to(x)
    shrink = _shrinkage(min(float(step) * penalty, torch.finfo(x.dtype).max), positive)
    z = torch.zeros_like(target)
    ahead, weight = z, torch.ones_like(z[:, :1])
    for _ in range(steps):
        # From the codes and not the residual: N^2 instead of 2 N D a sample.
        new = shrink(torch.addmm(target, ahead, gram, alpha=-1).add_(ahead))
        change = new - z
        if momentum:
            against = ((ahead - new) * change).sum(dim=1, keepdim=True) > 0
            weight = torch.where(against, 1.0, weight)
            grown = (1 + torch.sqrt(1 + 4 * weight.square())) / 2
            ahead, weight = torch.addcmul(new, (weight - 1) / grown, change), grown
        else:
            ahead = new
        z = new
        if change.abs().amax() <= tolerance * z.abs().amax():
            break
    return z


def _shrinkage(threshold: float, positive: bool) -> Callable[[Tensor], Tensor]:
    if positive:
        return lambda v: (v - threshold).relu_()
    return lambda v: F.softshrink(v, threshold)
