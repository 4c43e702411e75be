"""L1 coding against scikit-learn's coordinate descent."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from sklearn.decomposition import sparse_encode
from torch import Tensor

from sparse_ae.coders import L1Coder
from sparse_ae.coders.ista import l1_objective
from tests.coders.test_omp import random_problem


def fista(x: Tensor, atoms: Tensor, penalty: float, **options: Any) -> Tensor:
    return L1Coder(atoms, penalty, **options).encode(x)


def ista(x: Tensor, atoms: Tensor, penalty: float, **options: Any) -> Tensor:
    return L1Coder(atoms, penalty, momentum=False, **options).encode(x)


def reference(x: Tensor, atoms: Tensor, penalty: float, positive: bool = False) -> Tensor:
    options = {"algorithm": "lasso_cd", "alpha": penalty, "max_iter": 100_000, "positive": positive}
    return torch.from_numpy(sparse_encode(x.numpy(), atoms.numpy(), **options))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("solve", [ista, fista])
def test_against_scikit_learn(solve: Any, positive: bool) -> None:
    x, atoms = random_problem(12, 20)
    atoms *= torch.linspace(0.5, 2, 12, dtype=torch.float64)[:, None]
    z = solve(x, atoms, 0.3, steps=5000, tolerance=1e-9, positive=positive)
    torch.testing.assert_close(z, reference(x, atoms, 0.3, positive), atol=1e-4, rtol=0)
    assert (z == 0).any()
    assert (z >= 0).all() or not positive
    single = solve(x.float(), atoms.float(), 0.3, steps=5000, tolerance=1e-7, positive=positive)
    torch.testing.assert_close(single.double(), z, atol=1e-4, rtol=0)


@pytest.mark.parametrize("solve", [ista, fista])
@pytest.mark.parametrize("of_atoms", [-83, 0, 83])
@pytest.mark.parametrize("of_x", [-83, 0, 83])  # squares of such values are 0 or infinite in float32
def test_codes_scale_with_data_and_atoms(solve: Any, of_x: int, of_atoms: int) -> None:
    x, atoms = (t.float() for t in random_problem(12, 20))
    expected = solve(x, atoms, 0.3)
    z = solve(x * 2.0**of_x, atoms * 2.0**of_atoms, 0.3 * 2.0**of_x * 2.0**of_atoms)
    assert (expected != 0).any()
    # Of 2^83 and 2^-83 codes are too large or too small for float32, which is not to make them NaN.
    torch.testing.assert_close(z, (expected.double() * 2.0 ** (of_x - of_atoms)).float(), atol=0, rtol=1e-6)
    assert (solve(x * 2.0**of_x, atoms * 2.0**of_atoms, 1e38 * 2.0**of_x * 2.0**of_atoms) == 0).all()


def test_overcomplete_reaches_the_same_objective() -> None:
    x, atoms = random_problem(60, 20)
    ours = l1_objective(fista(x, atoms, 0.2, steps=5000, tolerance=1e-9), x, atoms, 0.2)
    theirs = l1_objective(reference(x, atoms, 0.2), x, atoms, 0.2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_ista_lowers_the_objective_at_every_step() -> None:
    x, atoms = random_problem(60, 20)
    objectives = [
        l1_objective(ista(x, atoms, 0.2, steps=steps, tolerance=0.0), x, atoms, 0.2) for steps in range(1, 60)
    ]
    assert all((after <= before * (1 + 1e-12)).all() for before, after in pairwise(objectives))
    assert (objectives[0] <= x.square().sum(dim=1) / 2).all()
    best = l1_objective(reference(x, atoms, 0.2), x, atoms, 0.2)
    ahead = l1_objective(fista(x, atoms, 0.2, steps=59, tolerance=0.0), x, atoms, 0.2) - best
    assert ahead.mean() < 0.2 * (objectives[-1] - best).mean()


def test_limits() -> None:
    x, atoms = random_problem(12, 20)
    assert (fista(x, atoms, 1e6) == 0).all()
    assert (fista(x * 0, atoms, 0.1) == 0).all()
    assert fista(x[:0], atoms, 0.1).shape == (0, 12)
    least_squares = torch.linalg.lstsq(atoms.T, x.T).solution.T
    torch.testing.assert_close(fista(x, atoms, 0.0, steps=5000, tolerance=1e-10), least_squares, atol=1e-6, rtol=0)


def test_coder() -> None:
    x, atoms = random_problem(12, 20)
    mean = torch.linspace(-1, 1, 20, dtype=torch.float64)
    coder = L1Coder(atoms, 0.3, steps=1000, tolerance=1e-8, mean=mean)
    z = coder.encode(x + mean)
    torch.testing.assert_close(z, reference(x, atoms, 0.3), atol=1e-4, rtol=0)
    torch.testing.assert_close(coder.decode(z), z @ atoms + mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1.0}, "penalty=-1.0: should be greater than or equal to 0"),
        ({"tolerance": float("nan")}, "tolerance=nan: should be a finite number"),
        ({"steps": 0}, "steps=0: should be greater than 0"),
        ({"atoms": torch.zeros(3, 20)}, "dictionary: 3 of 3 atoms are zero"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    x, atoms = random_problem(12, 20)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fista(**{"x": x, "atoms": atoms, "penalty": 0.1, **options})
    assert str(error.value) == message
