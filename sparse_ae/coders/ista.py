"""L1 coding on a dictionary by iterative shrinkage: ISTA, and FISTA, its accelerated form."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from sparse_ae.coders.base import DictionaryCoder
from sparse_ae.coders.preprocessing import scale
from sparse_ae.config.checked import checked


class L1Coder(DictionaryCoder):
    """z = argmin_z 1/2 |x - mean - z A|^2 + penalty |z|_1 on the ``dictionary A (N, D)``.

    ISTA, without ``momentum``: z <- shrink(z - (z A - x) A^T / L, penalty / L) from 0, L the largest eigenvalue of
    A A^T. shrink(v, t) = sign(v) max(|v| - t, 0), or max(v - t, 0) for ``positive`` codes. The objective falls at
    every step. FISTA, with Nesterov's ``momentum``: the error falls as 1/steps^2 and not 1/steps, though not at every
    step. The momentum of a sample restarts when its step points against it, which ends ripples around the minimum.

    A search ends after ``steps``, or when no code of any sample changes by more than ``tolerance`` times the largest
    code. Computed in at least float32.

    Sources: I. Daubechies, M. Defrise, C. De Mol, "An iterative thresholding algorithm for linear inverse problems with
    a sparsity constraint", CPAM 2004; A. Beck, M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for
    linear inverse problems", SIAM J. Imaging Sciences 2009; B. O'Donoghue, E. Candes, "Adaptive restart for accelerated
    gradient schemes", 2015.

    >>> L1Coder(torch.eye(2), penalty=1.0).encode(torch.tensor([[3.0, 0.5]]))
    tensor([[2., 0.]])
    """

    @checked
    def __init__(
        self,
        dictionary: Tensor,
        penalty: NonNegativeFloat = 0.5,
        steps: PositiveInt = 300,
        tolerance: NonNegativeFloat = 1e-4,
        positive: bool = False,
        momentum: bool = True,
        mean: Tensor | None = None,
    ) -> None:
        super().__init__(dictionary, mean)
        self.penalty = penalty
        self.steps = steps
        self.tolerance = tolerance
        self.positive = positive
        self.momentum = momentum

    @property
    def arguments(self) -> dict[str, Any]:
        names = ("penalty", "steps", "tolerance", "positive", "momentum")
        return {name: getattr(self, name) for name in names}

    def encode_centred(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        if not len(x):
            return x.new_zeros(0, len(self.atoms), dtype=dtype)
        x, atoms = x.to(dtype), self.atoms.to(dtype)
        # With x = s x', A = r A' and z = s/r z' the objective is s^2 times that of x', A' and penalty / (s r).
        of_x, of_atoms = scale(x), scale(atoms)
        return self._shrink(x / of_x, atoms / of_atoms, self.penalty / of_x / of_atoms) * of_x / of_atoms

    def _shrink(self, x: Tensor, atoms: Tensor, penalty: float) -> Tensor:
        # Rounding can make the eigenvalue too small, and a step longer than 1/L need not lower the objective.
        step = 1 / (torch.linalg.matrix_norm(atoms.double(), ord=2).square() * (1 + 1e-6))
        target = (x @ atoms.T) * step.to(x)
        # From the codes and not the residual, unless 2 N D multiplications per sample are fewer than N^2.
        products = [atoms @ atoms.T] if len(atoms) <= 2 * atoms.shape[1] else [atoms, atoms.T]
        products[-1] = products[-1] * step.to(x)
        shrink = _shrinkage(min(float(step) * penalty, torch.finfo(x.dtype).max), self.positive)
        z = torch.zeros_like(target)
        ahead, weight = z, torch.ones_like(z[:, :1])
        for _ in range(self.steps):
            image = ahead @ products[0] if products[1:] else ahead
            new = shrink(torch.addmm(target, image, products[-1], alpha=-1).add_(ahead))
            change = new - z
            if self.momentum:
                against = ((ahead - new) * change).sum(dim=1, keepdim=True) > 0
                weight = torch.where(against, 1.0, weight)
                grown = (1 + torch.sqrt(1 + 4 * weight.square())) / 2
                ahead, weight = torch.addcmul(new, (weight - 1) / grown, change), grown
            else:
                ahead = new
            z = new
            if change.abs().amax() <= self.tolerance * z.abs().amax():
                break
        return z


def l1_objective(z: Tensor, x: Tensor, atoms: Tensor, penalty: float) -> Tensor:
    """1/2 |x_b - z_b A|^2 + penalty |z_b|_1 of each sample, ``(B,)``.

    >>> l1_objective(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.5]]), torch.eye(2), penalty=1.0)
    tensor([2.6250])
    """
    error: Tensor = (x - z @ atoms).square().sum(dim=1)
    return error / 2 + penalty * z.abs().sum(dim=1)


def _shrinkage(threshold: float, positive: bool) -> Callable[[Tensor], Tensor]:
    if positive:
        return lambda v: (v - threshold).relu_()
    return lambda v: F.softshrink(v, threshold)
