"""Batched orthogonal matching pursuit against scikit-learn, on random and on degenerate problems."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp_gram
from torch import Tensor

from sparse_ae.coders import OMP, omp
from sparse_ae.coders.omp import sparse_codes


def random_problem(n_atoms: int, dim: int, samples: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Data and unit-norm atoms, float64."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(n_atoms, dim, generator=generator, dtype=torch.float64)
    x = torch.randn(samples, dim, generator=generator, dtype=torch.float64)
    return x, atoms / atoms.norm(dim=1, keepdim=True)


def pursue(x: Tensor, atoms: Tensor, k: int | None = None, **options: Any) -> Tensor:
    return OMP(atoms, k, **options).encode(x)


def reference(x: Tensor, atoms: Tensor, k: int | None = None, tolerance: float | None = None) -> Tensor:
    """scikit-learn's codes of each sample, one at a time: told of several, it returns ragged supports."""
    gram = (atoms @ atoms.T).numpy()
    codes = []
    for sample in x.double():
        options: dict[str, Any] = {"n_nonzero_coefs": k}
        if tolerance is not None:
            options = {"tol": tolerance, "norms_squared": sample.square().sum()[None].numpy()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it stops early
            codes.append(np.atleast_1d(orthogonal_mp_gram(gram, (atoms @ sample).numpy(), **options)))
    return torch.from_numpy(np.stack(codes))


@pytest.mark.parametrize(("n_atoms", "dim", "k"), [(30, 20, 1), (30, 20, 5), (64, 16, 16), (10, 50, 10), (1, 3, 1)])
def test_against_scikit_learn(n_atoms: int, dim: int, k: int) -> None:
    x, atoms = random_problem(n_atoms, dim)
    expected = reference(x, atoms, k)
    z = pursue(x, atoms, k)
    torch.testing.assert_close(z, expected, atol=1e-9, rtol=0)
    assert ((z != 0).sum(dim=1) == k).all()
    torch.testing.assert_close(
        pursue(x.float(), atoms.float(), min(k, 5)).double(),
        reference(x, atoms, min(k, 5)),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("selection", ["correlation", "error"])
def test_it_is_the_same_where_the_products_of_all_atoms_would_not_fit(
    selection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, atoms = random_problem(64, 16)
    expected = pursue(x, atoms, 7, selection=selection)
    monkeypatch.setattr(omp, "_GRAM_VALUES", 0)
    assert omp._Gram(atoms).whole is None
    torch.testing.assert_close(pursue(x, atoms, 7, selection=selection), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("tolerance", [8.0, 1.0, 1e-3, 0.0])
def test_tolerance_against_scikit_learn(tolerance: float) -> None:
    x, atoms = random_problem(64, 16)
    z = pursue(x, atoms, tolerance=tolerance)
    assert ((x - z @ atoms).square().sum(dim=1) <= tolerance + 1e-12).all()
    above = x.square().sum(dim=1) > tolerance  # scikit-learn spends an atom also on a sample that needs none
    assert (z[~above] == 0).all()
    torch.testing.assert_close(z[above], reference(x[above], atoms, tolerance=max(tolerance, 1e-20)), atol=1e-7, rtol=0)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-5])
def test_tolerance_in_float32(tolerance: float) -> None:
    x, atoms = random_problem(256, 64, samples=300)
    x, atoms = x.float(), atoms.float()
    energy = x.double().square().sum(dim=1)
    z = pursue(x, atoms, tolerance=tolerance)
    error = (x.double() - z.double() @ atoms.double()).square().sum(dim=1)
    assert (error <= tolerance + 1e-6 * energy).all()
    assert (error > 0.1 * tolerance).any()  # it does stop


def test_codes_do_not_depend_on_who_else_is_coded_or_on_scale() -> None:
    x, atoms = random_problem(2000, 12, samples=300)  # more than one chunk
    z = pursue(x, atoms, 4)
    torch.testing.assert_close(z[200:203], pursue(x[200:203], atoms, 4))
    scales = torch.logspace(-3, 3, len(atoms), dtype=torch.float64)[:, None]
    torch.testing.assert_close(pursue(x, atoms * scales, 4) * scales.T, z)
    assert pursue(x[:0], atoms, 4).shape == (0, 2000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
def test_nothing_is_left_of_samples_in_the_span(dtype: torch.dtype, size: float) -> None:
    x, atoms = random_problem(30, 40)
    x[:, :] = 0
    x[1:] = (atoms[3] - 2 * atoms[7]) * size
    z = pursue(x.to(dtype), atoms.to(dtype), 10)
    expected = torch.zeros_like(z)
    expected[1:, 3], expected[1:, 7] = size, -2 * size
    assert ((z != 0) == (expected != 0)).all()  # it stops at two atoms, and at none for the zero signal
    torch.testing.assert_close(z / size, expected / size, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicate_atoms_and_rank_deficient_dictionaries(dtype: torch.dtype) -> None:
    x, atoms = random_problem(20, 30)
    twice = torch.cat([atoms[:6], atoms[:6], -atoms[:6], atoms[:6] * 5])  # rank 6
    z = pursue(x.to(dtype), twice.to(dtype), 20).double()
    assert z.isfinite().all()
    assert ((z != 0).sum(dim=1) <= 6).all()
    fit = torch.linalg.lstsq(atoms[:6].T, x.T).solution.T @ atoms[:6]
    torch.testing.assert_close(z @ twice, fit, atol=1e-4, rtol=0)
    unit = torch.cat([atoms[:6]] * 3)
    torch.testing.assert_close(reference(x, unit, 6) @ unit, fit, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_distinct", [32, 15])  # 64 atoms, which are searched as a table, and 30
def test_of_equal_atoms_the_first_is_chosen(n_distinct: int) -> None:
    x, _ = random_problem(1, n_distinct)
    twice = torch.eye(n_distinct, dtype=torch.float64).repeat(2, 1)  # whose scores are equal without any rounding
    shuffled = twice[torch.randperm(2 * n_distinct, generator=torch.Generator().manual_seed(0))]
    z = pursue(x, shuffled, 6)
    torch.testing.assert_close(z @ shuffled, reference(x, shuffled, 6) @ shuffled)
    # scikit-learn, which swaps atoms about as it goes, takes the first only where no swap came between.
    first = (shuffled @ shuffled.T).argmax(dim=1)
    assert (z[:, first != torch.arange(2 * n_distinct)] == 0).all()


@pytest.mark.parametrize("selection", ["correlation", "error"])
def test_no_atom_is_chosen_twice(selection: Any) -> None:
    x, atoms = random_problem(32, 40)
    near = torch.cat([atoms, atoms + 1e-6 * atoms.flip(0)])
    codes = sparse_codes(x, near / near.norm(dim=1, keepdim=True), 24, selection)
    for atom, value in zip(codes.atom, codes.value, strict=True):
        chosen = atom[value != 0].tolist()
        assert len(set(chosen)) == len(chosen)


def test_no_gradient_flows_through_a_pursuit() -> None:
    x, atoms = random_problem(20, 10)
    expected = pursue(x, atoms, 3)
    z = pursue(x.requires_grad_(), atoms.requires_grad_(), 3)
    assert not z.requires_grad
    assert torch.equal(z, expected)


def test_nearly_dependent_atoms() -> None:
    x, atoms = random_problem(20, 30)
    near = torch.cat([atoms, atoms + 1e-3 * atoms.flip(0)])
    near = near / near.norm(dim=1, keepdim=True)
    expected = reference(x, near, 8)
    torch.testing.assert_close(pursue(x, near, 8), expected, atol=1e-4, rtol=0)
    z = pursue(x.float(), near.float(), 30)
    assert z.isfinite().all()
    # What float32 leaves unexplained of the whole span is rounding.
    best = torch.linalg.lstsq(atoms.T, x.T, driver="gelsd").solution.T @ atoms
    assert (z.double() @ near - best).norm() < 1e-2 * x.norm()


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4])
def test_atoms_nearly_all_alike(spread: float) -> None:
    x, atoms = random_problem(30, 40)
    near = 1 + spread * atoms * 40**0.5
    near = (near / near.norm(dim=1, keepdim=True)).float()
    z = pursue(x, near.double(), 8)
    expected = reference(x, near.double(), 8)
    assert ((z != 0) == (expected != 0)).all()
    torch.testing.assert_close(z @ near.double(), expected @ near.double(), atol=1e-6, rtol=0)
    # In float32 the nearest of them depend on each other but for rounding: fewer are taken, and nothing blows up.
    z = pursue(x.float(), near, 8)
    assert ((z != 0).sum(dim=1).amax() < 8) == (spread < 1e-2)
    assert z.isfinite().all()
    assert ((z @ near - x.float()).square().sum(dim=1) <= x.float().square().sum(dim=1)).all()


def test_coder() -> None:
    x, atoms = random_problem(64, 16)
    mean = torch.linspace(-1, 1, 16, dtype=torch.float64)
    coder = OMP(atoms, k=4, mean=mean)
    z = coder.encode(x + mean)
    torch.testing.assert_close(z, reference(x, atoms, 4), atol=1e-9, rtol=0)
    torch.testing.assert_close(coder.decode(z), z @ atoms + mean)
    assert torch.equal(coder.dictionary, atoms)
    assert (OMP(atoms, tolerance=0.5).encode(x) @ atoms - x).square().sum(dim=1).max() <= 0.5


BAD = {
    "k=0: should be greater than 0": {"k": 0},
    "k=65: more than there are atoms (expected 1 to 64)": {"k": 65},
    "k=3: given beside tolerance=0.1; only one can end a pursuit": {"k": 3, "tolerance": 0.1},
    "tolerance=-1.0: should be greater than or equal to 0": {"tolerance": -1.0},
    "tolerance=nan: should be a finite number": {"tolerance": float("nan")},
    "x: 1 of 640 values are not finite": {"k": 3, "x": "nan"},
    "dictionary: 1 of 1024 values are not finite": {"k": 3, "atoms": "inf"},
    "dictionary: 1 of 64 atoms are zero": {"k": 3, "atoms": "zero"},
    "dictionary: float32 of shape (16,) (expected floats (N, D), N and D at least 1)": {
        "k": 3,
        "atoms": torch.ones(16),
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line(message: str) -> None:
    x, atoms = random_problem(64, 16)
    options: dict[str, Any] = dict(BAD[message])
    broken = {"nan": torch.nan, "inf": torch.inf, "zero": 0.0}
    for name, tensor in (("x", x), ("atoms", atoms)):
        change = options.setdefault(name, tensor)
        if isinstance(change, str):
            if change == "zero":
                tensor[5] = 0.0
            else:
                tensor[5, 2] = broken[change]
            options[name] = tensor
    with pytest.raises(ValueError) as error:  # noqa: PT011
        pursue(**options)
    assert str(error.value) == message
    assert "\n" not in str(error.value)


def test_selection_by_error_is_the_exhaustive_search_for_the_next_atom() -> None:
    x, atoms = random_problem(30, 12, samples=6)
    z = pursue(x, atoms, 4, selection="error")
    for sample, code in zip(x, z, strict=True):
        chosen: list[int] = []
        for _ in range(4):
            errors = [
                float((sample - atoms[[*chosen, i]].T @ (torch.linalg.pinv(atoms[[*chosen, i]].T) @ sample)).norm())
                for i in range(30)
            ]
            chosen.append(int(np.argmin(errors)))
        assert set(code.nonzero()[:, 0].tolist()) == set(chosen)
        torch.testing.assert_close(code[chosen], torch.linalg.pinv(atoms[chosen].T) @ sample)
    with pytest.raises(ValueError, match="selection=best: should be 'correlation' or 'error'"):
        OMP(atoms, k=3, selection="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("selection", ["correlation", "error"])
def test_degenerate_dictionaries_whatever_the_selection(selection: Any) -> None:
    x, atoms = random_problem(20, 30)
    x[0] = 0
    twice = torch.cat([atoms[:6], -atoms[:6]])
    z = pursue(x, twice, 12, selection=selection)
    assert z.isfinite().all()
    assert (z[0] == 0).all()
    assert ((z[1:] != 0).sum(dim=1) == 6).all()
    torch.testing.assert_close(z @ twice, torch.linalg.lstsq(atoms[:6].T, x.T).solution.T @ atoms[:6])


@pytest.mark.parametrize("selection", ["correlation", "error"])
def test_positive_codes_are_a_search_one_by_one_without_the_negative_ones(selection: Any) -> None:
    x, atoms = random_problem(30, 12, samples=60)
    z = pursue(x, atoms, 6, selection=selection, positive=True)
    left_out = 0
    for sample, code in zip(x, z, strict=True):
        chosen: list[int] = []
        residual = sample
        for _ in range(6):
            similar = atoms @ residual
            if selection == "error":
                span = atoms[chosen].T @ torch.linalg.pinv(atoms[chosen].T)
                similar = similar / (atoms - atoms @ span.T).norm(dim=1)
            similar[chosen] = 0
            chosen.append(int(similar.argmax()))
            residual = sample - atoms[chosen].T @ (torch.linalg.pinv(atoms[chosen].T) @ sample)
        fitted = torch.linalg.pinv(atoms[chosen].T) @ sample
        while (fitted < 0).any():
            chosen = [atom for atom, value in zip(chosen, fitted, strict=True) if value > 0]
            fitted = torch.linalg.pinv(atoms[chosen].T) @ sample
            left_out += 1
        torch.testing.assert_close(code, torch.zeros(30, dtype=x.dtype).index_copy(0, torch.tensor(chosen), fitted))
    assert left_out


def test_leaving_out_comes_close_to_non_negative_least_squares() -> None:
    x, atoms = random_problem(30, 12, samples=60)
    chosen = sparse_codes(x, atoms, 6, positive=True).atom
    z = pursue(x, atoms, 6, positive=True)
    best = [nnls(atoms[own].T.numpy(), sample.numpy())[1] ** 2 for sample, own in zip(x, chosen, strict=True)]
    assert float((x - z @ atoms).square().sum()) < 1.01 * sum(best)


def test_the_first_positive_atom_is_the_most_similar_one_and_none_is_taken_that_points_away() -> None:
    x, atoms = random_problem(30, 12)
    z = pursue(x, atoms, 1, positive=True)
    similar = x @ atoms.T
    torch.testing.assert_close(z.max(dim=1), similar.max(dim=1))
    assert (pursue(-x.abs(), torch.eye(12, dtype=torch.float64), 3, positive=True) == 0).all()


def test_orthogonal_atoms_that_all_point_the_right_way_need_no_second_fit() -> None:
    x = random_problem(5, 12)[0].abs()
    eye = torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(pursue(x, eye, 4, positive=True), pursue(x, eye, 4), atol=0, rtol=0)
